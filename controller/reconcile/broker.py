"""One Broker: what its status is to be, and how the data plane is to serve it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.objects.annotations import without_effect
from controller.objects.views import BROKER_CLASS, broker_class, child, generation_of, name_of, uid_of
from controller.reconcile.conditions import FALSE, INFO, UNKNOWN, WARNING, Condition, to_json, with_ready
from controller.reconcile.config import broker_config
from controller.reconcile.resolve import Unresolved, resolve
from eventing.routing import BrokerRoute, WhenFull

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.objects.kind import JsonObject
    from controller.reconcile.world import World
    from eventing.delivery import Destination
    from eventing.routing import Retention

HALF_FULL, NEARLY_FULL, FULL = 50, 80, 100
"""Per cent of the room that a channel has for new events, at which its Broker says so."""

_NO_POLICIES = 'Feature "authentication-oidc" must be enabled to support Authorization'


@dataclass(frozen=True, slots=True)
class ChannelState:
    """How a Broker's channel is: usable or not, with a one-word reason and a sentence; `ok` None is not known yet."""

    ok: bool | None
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class BrokerFacts:
    """What is known of a Broker beside the objects: the ingress as publishers reach it, and the Broker's channel.

    `fullness` is how many per cent of the room for new events are taken, and `when_full` what happens then unless the
    Broker's config says it.
    """

    base_url: str
    channel: ChannelState
    fullness: int = 0
    when_full: WhenFull = WhenFull.REFUSE


@dataclass(frozen=True, slots=True)
class BrokerPlan:
    """What follows from a Broker: its whole new status, and its route without Triggers."""

    status: JsonObject
    route: BrokerRoute


def is_ours(broker: JsonObject, *, cluster: bool) -> bool:
    """Whether we serve this Broker: in a cluster those of class Penstock, without one every class."""
    return not cluster or broker_class(broker) == BROKER_CLASS


def reconcile_broker(
    broker: JsonObject, world: World, facts: BrokerFacts, *, now: str, cluster: bool = False
) -> BrokerPlan:
    """Status and route of a Broker that is ours. `now` is the time in Kubernetes' form, for conditions that change."""
    url = _url(broker, facts.base_url)
    sink = dead_letter_sink(broker, world, cluster=cluster)
    config = broker_config(broker, world, cluster=cluster)
    conditions = [
        Condition("Addressable") if url else Condition("Addressable", FALSE, "nil URL", "URL is nil"),
        _channel_ready(facts.channel),
        config.condition,
        Condition("EventPoliciesReady", reason="OIDCDisabled", message=_NO_POLICIES),
    ]
    ready = with_ready(conditions)
    shown = [
        *ready,
        dead_letter_sink_resolved(sink, INFO),
        *_room_available(facts.fullness, config.when_full or facts.when_full),
        *_annotations_supported(broker),
    ]
    status: JsonObject = {
        "observedGeneration": generation_of(broker),
        "conditions": to_json(shown, broker, now),
        **destination_status("deadLetterSink", sink),
    }
    if url:
        status["address"] = {"name": url.partition(":")[0], "url": url}
    return BrokerPlan(status, _route(broker, conditions, config.retention))


def dead_letter_sink(obj: JsonObject, world: World, *, cluster: bool) -> Destination | Unresolved | None:
    """The dead letter sink in the delivery spec of a Broker or Trigger, None where it has none."""
    sink = child(obj, "spec", "delivery").get("deadLetterSink")
    if sink is None:
        return None
    return resolve(sink if isinstance(sink, dict) else {}, name_of(obj).namespace, world, cluster=cluster)


def dead_letter_sink_resolved(sink: Destination | Unresolved | None, severity: str = "") -> Condition:
    """The condition `DeadLetterSinkResolved`."""
    name = "DeadLetterSinkResolved"
    if sink is None:
        message = "No dead letter sink is configured."
        return Condition(name, reason="DeadLetterSinkNotConfigured", message=message, severity=severity)
    if isinstance(sink, Unresolved):
        return Condition(name, FALSE, "Unable to get the dead letter sink's URI", sink.message, severity)
    return Condition(name, severity=severity)


def destination_status(prefix: str, found: Destination | Unresolved | None) -> JsonObject:
    """How a status shows a resolved destination: `<prefix>Uri`, and CACerts and Audience where there are any."""
    if found is None or isinstance(found, Unresolved):
        return {}
    fields = {"Uri": found.url, "CACerts": found.ca_certs, "Audience": found.audience}
    return {f"{prefix}{name}": value for name, value in fields.items() if value}


def _url(broker: JsonObject, base_url: str) -> str:
    namespace, name = name_of(broker)
    return f"{base_url.rstrip('/')}/{namespace}/{name}" if base_url else ""


def _channel_ready(channel: ChannelState) -> Condition:
    if channel.ok is None:
        message = channel.message or "The channel has not been opened yet."
        return Condition("ChannelReady", UNKNOWN, channel.reason or "ChannelNotReconciled", message)
    if not channel.ok:
        return Condition("ChannelReady", FALSE, channel.reason or "ChannelFailure", channel.message)
    return Condition("ChannelReady", reason=channel.reason, message=channel.message)


def _room_available(fullness: int, when_full: WhenFull) -> Iterator[Condition]:
    if fullness < HALF_FULL:
        return
    what = "the oldest events are dropped, read or not" if when_full is WhenFull.DROP_OLDEST else "events are refused"
    fix = "make room or raise its limit, shorten retention, or see which Trigger is behind"
    if fullness >= FULL:
        message = f"The channel has no room for new events: {what} ({fix})."
        yield Condition("RoomAvailable", FALSE, "Full", message, WARNING)
        return
    reason, severity = ("NearlyFull", WARNING) if fullness >= NEARLY_FULL else ("HalfFull", INFO)
    message = f"More than {fullness} % of the room for events is taken; when it is full, {what} ({fix})."
    yield Condition("RoomAvailable", FALSE, reason, message, severity)


def _annotations_supported(broker: JsonObject) -> Iterator[Condition]:
    if names := without_effect(broker):
        message = f"These annotations have no effect on a Broker: {', '.join(names)}"
        yield Condition("AnnotationsSupported", FALSE, "UnknownAnnotations", message, WARNING)


def _route(broker: JsonObject, conditions: list[Condition], retention: Retention) -> BrokerRoute:
    # The address does not matter here: who asks has found it.
    blocking = [one for one in conditions if one.status != "True" and one.type != "Addressable"]
    reason = f"{blocking[0].reason}: {blocking[0].message}" if blocking else ""
    return BrokerRoute(uid_of(broker), name_of(broker), ready=not blocking, reason=reason, retention=retention)
