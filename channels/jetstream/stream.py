"""The stream of a log: how it is made, what of a Broker's configuration it follows, and how full it is."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from channels.channel import DROP_OLDEST, WHEN_FULL
from channels.errors import StoreError
from channels.jetstream.errors import NameInUse
from channels.jetstream.names import stream_name, subject_of
from channels.records import LogName

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from channels.jetstream.connection import Connection

DUPLICATE_WINDOW: Final = 120_000_000_000
"""Nanoseconds for which the server knows a reply again that is sent twice."""

_NAMESPACE, _BROKER, _OWNER, _INCARNATION, _PARTITIONS = (
    f"penstock.{name}" for name in ("namespace", "broker", "owner", "incarnation", "partitions")
)


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What a Broker's configuration says of its stream. `max_bytes` is -1 where nothing but the server bounds it."""

    partitions: int = 1
    replicas: int = 1
    max_bytes: int = -1
    drop_oldest: bool = False


@dataclass(frozen=True, slots=True)
class StreamRow:
    """A stream as the server has it."""

    stream: str
    subject: str
    name: LogName
    incarnation: str
    partitions: int
    config: Mapping[str, Any]

    def subject_of(self, partition: int) -> str:
        """The subject of a partition."""
        return f"{self.subject}.{partition}"

    @property
    def replicas(self) -> int:
        return int(self.config["num_replicas"])

    @property
    def drops_oldest(self) -> bool:
        return bool(self.config["discard"] == "old")

    @property
    def may_skip(self) -> bool:
        """Whether the server removes records by itself."""
        return self.drops_oldest or bool(self.config.get("max_age"))


def settings_of(config: Mapping[str, str], replicas: int) -> StreamSettings:
    """Read the keys of a Broker's ConfigMap, `replicas` where it does not say. Raises StoreError with the key at fault.

    `stream.maxBytes` is a number of bytes here. Kafka's names are read too where ours are not given.
    """
    return StreamSettings(
        partitions=_number(config, ("stream.partitions", "default.topic.partitions"), 1),
        replicas=_number(config, ("stream.replicas", "default.topic.replication.factor"), replicas),
        max_bytes=_number(config, ("stream.maxBytes",), -1),
        drop_oldest=config.get(WHEN_FULL) == DROP_OLDEST,
    )


def _number(config: Mapping[str, str], keys: Sequence[str], default: int) -> int:
    for key in keys:
        text = config.get(key, "")
        if text:
            if not text.isdecimal() or not int(text):
                raise StoreError(f"{key}: {text!r} is no number above 0")
            return int(text)
    return default


async def make(connection: Connection, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a stream where there is none of its name; the configuration that it has. Raises ChannelError.

    That the server took a field says nothing: an older one ignores what it does not know. So it is read back.
    """
    try:
        answer = await connection.api(f"STREAM.CREATE.{wanted['name']}", wanted, wrote=True)
    except NameInUse:
        answer = await connection.api(f"STREAM.INFO.{wanted['name']}")
    config: Mapping[str, Any] = answer["config"]
    return config


async def make_log(connection: Connection, prefix: str, name: LogName, settings: StreamSettings) -> StreamRow:
    """The stream of a log, made where there is none, with these settings from now on. Raises ChannelError."""
    stream = stream_name(prefix, name)
    subject = subject_of(prefix, name)
    wanted = {
        "name": stream,
        "description": f"Events of the Broker {name.namespace}/{name.name}",
        "subjects": [f"{subject}.*"],
        "retention": "limits",
        "storage": "file",
        "discard": "old" if settings.drop_oldest else "new",
        "max_bytes": settings.max_bytes,
        "num_replicas": settings.replicas,
        "duplicate_window": DUPLICATE_WINDOW,
        "allow_direct": True,
        "allow_atomic": True,
        "metadata": {
            _NAMESPACE: name.namespace,
            _BROKER: name.name,
            _OWNER: name.owner,
            _INCARNATION: secrets.token_hex(8),
            _PARTITIONS: str(settings.partitions),
        },
    }
    config = await make(connection, wanted)
    changed = {key: wanted[key] for key in ("discard", "max_bytes", "num_replicas") if config.get(key) != wanted[key]}
    if changed:
        config = (await connection.api(f"STREAM.UPDATE.{stream}", {**config, **changed}, wrote=True))["config"]
    for key in ("allow_direct", "allow_atomic"):
        if not config.get(key):
            raise StoreError(f"the stream {stream} was made without {key}: remove it, or edit it with the nats tool")
    return row_of(config)


async def find_log(connection: Connection, prefix: str, name: LogName) -> StreamRow:
    """The stream of a log. Raises LogNotFound."""
    return row_of((await connection.api(f"STREAM.INFO.{stream_name(prefix, name)}"))["config"])


async def list_logs(connection: Connection, root: str) -> list[StreamRow]:
    """The streams of all logs whose subjects begin with `root`. Raises ChannelError."""
    found: list[StreamRow] = []
    offset = 0
    while True:
        answer = await connection.api("STREAM.LIST", {"subject": f"{root}.>", "offset": offset})
        streams = answer.get("streams") or []
        found += [row_of(stream["config"]) for stream in streams if _OWNER in (stream["config"].get("metadata") or {})]
        offset += len(streams)
        if not streams or offset >= answer["total"]:
            return found


def row_of(config: Mapping[str, Any]) -> StreamRow:
    """From the configuration of a stream."""
    told = config.get("metadata") or {}
    try:
        name = LogName(told[_NAMESPACE], told[_BROKER], told[_OWNER])
        subject = config["subjects"][0].removesuffix(".*")
        return StreamRow(config["name"], subject, name, told[_INCARNATION], int(told[_PARTITIONS]), config)
    except (KeyError, ValueError) as error:
        raise StoreError(f"the stream {config['name']} is no log of Penstock: its metadata lack {error}") from error
