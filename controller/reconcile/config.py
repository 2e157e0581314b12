"""What a Broker's `spec.config` asks for, and what it gets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from controller.objects.quantities import parse_bytes
from controller.objects.views import child, name_of, reference_key, string
from controller.reconcile.conditions import FALSE, Condition
from eventing.durations import parse_duration
from eventing.routing import DEFAULT_RETENTION, Retention, WhenFull

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.objects.kind import JsonObject
    from controller.reconcile.world import World

_FOREIGN_KEYS = {
    "bootstrap.servers": "Kafka",
    "eventing-nats": "NATS",
    "channel-template-spec": "a Knative Channel",
}


WHEN_FULL: Final = "whenFull"
RETENTION_AGE: Final = "retention.age"
RETENTION_SIZE: Final = "retention.size"
PARTITIONS: Final = "stream.partitions"
REPLICAS: Final = "stream.replicas"
MAX_BYTES: Final = "stream.maxBytes"
_OURS: Final = frozenset(
    {"channel", WHEN_FULL, RETENTION_AGE, RETENTION_SIZE, PARTITIONS, REPLICAS, MAX_BYTES, "default.topic.partitions"}
    | {"default.topic.replication.factor"}
)
_MOST: Final = {
    PARTITIONS: 1024,
    "default.topic.partitions": 1024,
    REPLICAS: 5,
    "default.topic.replication.factor": 5,
}


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """A Broker's configuration: the condition `ConfigParsed`, and what it sets; `when_full` is None where it does not.

    `stream` are the keys that say how its log is made, where the channel lets a Broker say that: sizes in bytes.
    """

    condition: Condition
    retention: Retention = DEFAULT_RETENTION
    when_full: WhenFull | None = None
    stream: Mapping[str, str] = field(default_factory=dict)


def broker_config(broker: JsonObject, world: World, *, cluster: bool) -> BrokerConfig:
    """Read the ConfigMap that `spec.config` names. Without a cluster one that we cannot follow means the default channel."""
    ref = child(broker, "spec", "config")
    key = reference_key(ref, name_of(broker).namespace) if ref else None
    found = world.get(key) if key is not None and (key.group, key.kind) == ("", "ConfigMap") else None
    data = child(found, "data") if found is not None and key is not None else {}
    try:
        config = BrokerConfig(Condition("ConfigParsed"), _retention(data), _when_full(data), _stream(data))
    except _Unusable as error:
        what = f"{key.kind} {key.namespace}/{key.name}" if key is not None else ""
        return BrokerConfig(Condition("ConfigParsed", FALSE, "InvalidConfig", f"{what}: {error}"))
    return replace(config, condition=_condition(broker, world, cluster=cluster))


class _Unusable(Exception):
    """A key has a value that cannot be used."""


def _when_full(data: JsonObject) -> WhenFull | None:
    value = string(data, WHEN_FULL)
    if not value:
        return None
    try:
        return WhenFull(value)
    except ValueError as error:
        raise _Unusable(f"{WHEN_FULL}: {value!r} is not usable, use refuse or dropOldest") from error


def _stream(data: JsonObject) -> Mapping[str, str]:
    found = {}
    for key, most in _MOST.items():
        text = string(data, key)
        if text and not (text.isdecimal() and 1 <= int(text) <= most):
            raise _Unusable(f"{key}: {text!r} is not usable, write a number from 1 to {most}")
        if text:
            found[key] = text
    size = string(data, MAX_BYTES)
    try:
        return {**found, MAX_BYTES: str(parse_bytes(size))} if size else found
    except ValueError as error:
        raise _Unusable(f"{MAX_BYTES}: {size!r}: {error}") from error


def _retention(data: JsonObject) -> Retention:
    age, size = string(data, RETENTION_AGE), string(data, RETENTION_SIZE)
    try:
        seconds = parse_duration(age) if age else None
    except ValueError as error:
        raise _Unusable(f"{RETENTION_AGE}: {age!r}: {error}") from error
    if seconds is not None and seconds < 0:
        raise _Unusable(f"{RETENTION_AGE}: {age!r} is negative: write it like PT12H or P7D")
    try:
        return Retention(seconds, parse_bytes(size) if size else None)
    except ValueError as error:
        raise _Unusable(f"{RETENTION_SIZE}: {size!r}: {error}") from error


def _condition(broker: JsonObject, world: World, *, cluster: bool) -> Condition:
    ref = child(broker, "spec", "config")
    if not ref:
        return _stands_in("spec.config is not set")
    key = reference_key(ref, name_of(broker).namespace)
    what = f"{key.kind} {key.namespace}/{key.name}"
    if (key.group, key.kind) != ("", "ConfigMap"):
        return _unfit("ConfigNotSupported", f"spec.config names {what}, and only a ConfigMap is read", cluster=cluster)
    config = world.get(key)
    if config is None:
        return _unfit("ConfigMapNotFound", f"{what} does not exist", cluster=cluster)
    data = child(config, "data")
    if string(data, "channel"):
        return _own_config(data, what)
    for name, backend in _FOREIGN_KEYS.items():
        if name in data:
            message = f"{what} asks for {backend} ({name}), which is not supported yet"
            return _unfit("ChannelNotSupported", message, cluster=cluster)
    return _stands_in(f"{what} names no channel")


def _own_config(data: JsonObject, what: str) -> Condition:
    channel = string(data, "channel")
    if channel.partition(":")[0] != "sqlite":
        message = f'{what}: channel "{channel}" is not supported yet, use sqlite:'
        return Condition("ConfigParsed", FALSE, "ChannelNotSupported", message)
    ignored = sorted(set(data) - _OURS)
    if ignored:
        message = f"{what}: these keys are not supported yet and have no effect: {', '.join(ignored)}"
        return Condition("ConfigParsed", reason="KeysNotSupported", message=message)
    return Condition("ConfigParsed")


def _unfit(reason: str, why: str, *, cluster: bool) -> Condition:
    return Condition("ConfigParsed", FALSE, reason, f"{why}.") if cluster else _stands_in(why)


def _stands_in(why: str) -> Condition:
    return Condition("ConfigParsed", reason="DefaultChannel", message=f"{why}: the default channel is used.")
