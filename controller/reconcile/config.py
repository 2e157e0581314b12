"""What a Broker's `spec.config` asks for, and what it gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.objects.views import child, name_of, reference_key, string
from controller.reconcile.conditions import FALSE, Condition

if TYPE_CHECKING:
    from controller.objects.kind import JsonObject
    from controller.reconcile.world import World

_FOREIGN_KEYS = {
    "bootstrap.servers": "Kafka",
    "eventing-nats": "NATS",
    "channel-template-spec": "a Knative Channel",
}


def config_parsed(broker: JsonObject, world: World, *, cluster: bool) -> Condition:
    """The condition `ConfigParsed`. Without a cluster a config that we cannot follow means the default channel."""
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
    ignored = sorted(set(data) - {"channel"})
    if ignored:
        message = f"{what}: these keys are not supported yet and have no effect: {', '.join(ignored)}"
        return Condition("ConfigParsed", reason="KeysNotSupported", message=message)
    return Condition("ConfigParsed")


def _unfit(reason: str, why: str, *, cluster: bool) -> Condition:
    return Condition("ConfigParsed", FALSE, reason, f"{why}.") if cluster else _stands_in(why)


def _stands_in(why: str) -> Condition:
    return Condition("ConfigParsed", reason="DefaultChannel", message=f"{why}: the default channel is used.")
