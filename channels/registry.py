"""Which backend a channel URL names. Each is imported only when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from channels.errors import StoreError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from channels.channel import ChannelSettings
    from channels.driver import Backend


def open_backend(url: str, data_dir: Path, settings: ChannelSettings) -> AbstractAsyncContextManager[Backend]:
    """The backend that `url` names; entering it opens it. `sqlite:` keeps its store in `data_dir`.

    Raises StoreError for a URL that names none; entering raises what the backend's opening raises.
    """
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        from channels.sqlite.backend import open_store  # noqa: PLC0415 - only the backend in use is loaded

        if url != "sqlite:":
            raise StoreError(
                f"--channel {shown(url)}: sqlite: takes no path, the store is kept in the directory of --data"
            )
        return open_store(data_dir, settings)
    if scheme in ("nats", "tls"):
        from channels.jetstream.backend import open_store as open_jetstream  # noqa: PLC0415 - as above

        return open_jetstream(url, data_dir, settings)
    if scheme == "kafka":
        raise StoreError(
            f"--channel {shown(url)}: this version has no {scheme} channel yet, use sqlite: or nats://HOST:PORT"
        )
    raise StoreError(
        f"--channel {shown(url)}: unknown scheme {scheme!r}, known are sqlite:, nats://HOST:PORT, kafka://HOST:PORT"
    )


def shown(url: str) -> str:
    """A channel URL as people and logs may see it: without who logs in and how."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="")) if parts.netloc else url
