"""The channel URL: which servers, as whom, and under which prefix.

    nats://[USER:PASSWORD@|TOKEN@]HOST:PORT[,HOST:PORT...][/PREFIX][?creds=FILE|nkey=FILE][&ca=FILE][&cert=FILE&key=FILE]
        [&replicas=N]

`tls://` asks for TLS, and so does `ca`. The prefix keeps installations on one server apart; `penstock` unless it is set.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from channels.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PREFIX: Final = "penstock"
_PREFIX: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")
_FILES: Final = ("creds", "nkey", "ca", "cert", "key")


@dataclass(frozen=True, slots=True)
class Address:
    """What a channel URL says. `login` are the arguments of the client's connect that say who we are."""

    servers: tuple[str, ...]
    prefix: str
    login: Mapping[str, Any]
    replicas: int
    """How many servers keep a copy of each stream, unless a Broker says otherwise."""
    shown: str
    """The URL without secrets, for messages."""


def parse_address(url: str) -> Address:
    """Read a channel URL and the TLS files that it names. Raises StoreError that says what to mend."""
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    shown = f"{parts.scheme}://{hosts}{parts.path}"
    if not hosts or not all(hosts.split(",")):
        raise StoreError(f"--channel {shown}: a host is missing: write it like nats://HOST:4222")
    prefix = parts.path.strip("/") or DEFAULT_PREFIX
    if not _PREFIX.fullmatch(prefix):
        raise StoreError(f"--channel {shown}: the prefix {prefix!r} may have 32 letters, digits, - and _")
    files = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(files.keys() - {*_FILES, "replicas"})
    if unknown:
        raise StoreError(
            f"--channel {shown}: unknown parameter {unknown[0]!r}, known are {', '.join(_FILES)}, replicas"
        )
    options: dict[str, Any] = {**_user(login), **_keys(files)}
    if parts.scheme == "tls" or "ca" in files or "cert" in files:
        options["tls"] = _tls(files, shown)
    servers = tuple(f"{parts.scheme}://{host}" for host in hosts.split(","))
    return Address(servers, prefix, options, _replicas(files.get("replicas", "1"), shown), shown)


def _replicas(text: str, shown: str) -> int:
    if text not in ("1", "2", "3", "4", "5"):
        raise StoreError(f"--channel {shown}: replicas={text!r}: use 1, 3 or 5")
    return int(text)


def _user(login: str) -> dict[str, str]:
    if not login:
        return {}
    user, colon, password = login.partition(":")
    return {"user": unquote(user), "password": unquote(password)} if colon else {"token": unquote(user)}


def _keys(files: Mapping[str, str]) -> dict[str, str]:
    found = {}
    if "creds" in files:
        found["user_credentials"] = files["creds"]
    if "nkey" in files:
        found["nkeys_seed"] = files["nkey"]
    return found


def _tls(files: Mapping[str, str], shown: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=files.get("ca"))
        if "cert" in files:
            context.load_cert_chain(files["cert"], files.get("key"))
    except (OSError, ssl.SSLError) as error:
        raise StoreError(f"--channel {shown}: the TLS files cannot be read: {error}") from error
    return context
