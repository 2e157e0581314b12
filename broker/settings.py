"""All that an operator may set, read once from flags, environment and a file into one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from broker.errors import UsageError
from channels.channel import ChannelSettings
from dispatcher.settings import DispatchSettings
from eventing.routing import WhenFull

if TYPE_CHECKING:
    from collections.abc import Mapping


OBJECTS: Final = "kubernetes.db"
"""The file of Brokers, Triggers and other objects in the data directory, beside the store of events."""


ROUTES: Final = "routes.json"
"""The file of the last known routes in the data directory of a process that joined an API server."""


class Role(StrEnum):
    """What a process does."""

    INGRESS = "ingress"
    DISPATCHER = "dispatcher"
    CONTROLLER = "controller"


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    @classmethod
    def parse(cls, text: str, setting: str) -> Address:
        """`HOST:PORT`, `[IPv6]:PORT` or `:PORT` (every interface). Raises UsageError that names `setting`."""
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdigit() or int(port) > 65535:
            raise UsageError(f"{setting}: {text!r} is no address: write HOST:PORT, for example 127.0.0.1:8080")
        return cls(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 - `:PORT` is how people ask for that


@dataclass(frozen=True, slots=True)
class Settings:
    """One process. `advertise` is the base URL that a Broker's status shows; times in seconds, sizes in bytes.

    `kubeconfig` is that of the API server to join, None for the one of the pod, or without a cluster our own. `roles` is
    empty for every role that fits. `namespace` is where Penstock's own objects are, "" for that of the pod or kubeconfig.
    """

    listen: Address
    api: Address
    data: Path
    channel: str = "sqlite:"
    manifests: tuple[Path, ...] = ()
    advertise: str = ""
    kubeconfig: Path | None = None
    roles: frozenset[Role] = frozenset()
    namespace: str = ""
    log_format: str = "text"
    log_level: str = "info"
    dispatch: DispatchSettings = field(default_factory=DispatchSettings)
    channels: ChannelSettings = field(default_factory=ChannelSettings)
    when_full: WhenFull = WhenFull.REFUSE

    @property
    def base_url(self) -> str:
        """What a Broker's address begins with."""
        if self.advertise:
            return self.advertise.rstrip("/")
        host = "127.0.0.1" if self.listen.host in ("0.0.0.0", "::") else self.listen.host  # noqa: S104 - compared, not bound
        return f"http://{Address(host, self.listen.port)}"


def default_data() -> Path:
    """The user's data directory."""
    import platformdirs  # noqa: PLC0415 - only needed where no directory is given

    return Path(platformdirs.user_data_dir("penstock", appauthor=False))


def load(flags: Mapping[str, Any], config: Path | None = None) -> Settings:
    """Flags that were given go before `PENSTOCK_*` variables, those before the file, that before the defaults.

    Raises UsageError.
    """
    from broker.settings_sources import read  # noqa: PLC0415 - pydantic-settings is slow to import and only `serve` needs it

    values = read({name: value for name, value in flags.items() if value not in (None, (), [])}, config)
    return Settings(
        listen=Address.parse(values.listen, "listen"),
        api=Address.parse(values.api, "api"),
        data=(values.data or default_data()).expanduser().absolute(),
        channel=values.channel,
        manifests=tuple(values.manifests),
        advertise=values.advertise,
        kubeconfig=values.kubeconfig.expanduser().absolute() if values.kubeconfig is not None else None,
        roles=frozenset(values.role),
        namespace=values.namespace,
        log_format=values.log_format,
        log_level=values.log_level,
        dispatch=DispatchSettings(
            park_after=values.park_after,
            byte_budget=values.byte_budget,
            grace=values.grace,
            retention_age=values.retention_age,
            retention_size=values.retention_size,
            max_parked=values.max_parked,
            max_parked_bytes=values.max_parked_bytes,
        ),
        channels=ChannelSettings(
            max_file_bytes=values.max_file_bytes,
            max_disk_share=values.max_disk_share,
            commit_interval=values.commit_interval,
            lease=values.lease,
        ),
        when_full=values.when_full,
    )
