"""One Trigger: what its status is to be, and how the data plane is to serve it.

Whatever is not understood or not resolved holds the Trigger: it keeps its place in the log and delivers nothing, so that
no event is lost or goes where it should not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from controller.objects.annotations import (
    DEFAULT_IN_FLIGHT,
    PAUSED,
    InvalidAnnotation,
    is_paused,
    max_in_flight_of,
    order_of,
    rate_of,
    start_of,
    unknown,
)
from controller.objects.field_errors import joined
from controller.objects.field_rules import attempt_errors
from controller.objects.validate_trigger import filter_faults
from controller.objects.views import broker_key, child, condition_of, generation_of, name_of, string, uid_of
from controller.reconcile.broker import dead_letter_sink, dead_letter_sink_resolved, destination_status
from controller.reconcile.conditions import FALSE, UNKNOWN, WARNING, Condition, to_json, with_ready
from controller.reconcile.dependency import dependency_ready
from controller.reconcile.resolve import Unresolved, resolve
from eventing.delivery import DEFAULT_DELIVERY, DeliverySpec, Destination
from eventing.delivery_spec import parse_delivery
from eventing.errors import InvalidDelivery, InvalidFilter
from eventing.filters import parse_filter
from eventing.routing import Order, TriggerRoute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from controller.objects.kind import JsonObject
    from controller.reconcile.world import World
    from eventing.filters import Filter


T = TypeVar("T")

__all__ = ["TriggerFacts", "TriggerPlan", "reconcile_trigger", "start_of"]


@dataclass(frozen=True, slots=True)
class TriggerFacts:
    """What is known of a Trigger beside the objects.

    `start_stored` says that its start position is durable, `loaded_generation` which generation of the Trigger the data
    plane has loaded (None for none), `problem` why it cannot be served now ("" where it can).
    """

    start_stored: bool = False
    loaded_generation: int | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class TriggerPlan:
    """What follows from a Trigger: its new status, all but the annotations, and its route, none without its Broker."""

    status: JsonObject
    route: TriggerRoute | None


@dataclass(frozen=True, slots=True)
class _Problem:
    """A part of the Trigger that cannot be used, and why."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class _Parts:
    """A Trigger taken apart: each part as a value that can be used, or what is wrong with it."""

    filter: Filter | _Problem
    subscriber: Destination | Unresolved
    sink: Destination | Unresolved | None
    delivery: DeliverySpec | _Problem
    max_in_flight: int | _Problem
    order: Order | _Problem
    rate: float | _Problem | None
    paused: bool | _Problem


def reconcile_trigger(
    trigger: JsonObject,
    broker: JsonObject | None,
    world: World,
    facts: TriggerFacts,
    *,
    now: str,
    cluster: bool = False,
) -> TriggerPlan:
    """Status and route of a Trigger. `broker` is the object that `broker_key` names, None where it does not exist."""
    parts = _take_apart(trigger, broker, world, cluster=cluster)
    conditions = [
        _broker_ready(trigger, broker),
        _subscriber_resolved(parts.subscriber),
        dead_letter_sink_resolved(parts.sink),
        dependency_ready(trigger, world),
        _filter_ready(parts.filter),
        _subscription_ready(trigger, parts, facts),
        Condition("OIDCIdentityCreated", reason="authentication-oidc feature disabled"),
    ]
    shown = [*with_ready(conditions), *_annotations_supported(trigger)]
    status: JsonObject = {
        "observedGeneration": generation_of(trigger),
        "conditions": to_json(shown, trigger, now),
        **destination_status("subscriber", parts.subscriber),
        **destination_status("deadLetterSink", parts.sink),
    }
    return TriggerPlan(status, None if broker is None else _route(trigger, parts))


def _take_apart(trigger: JsonObject, broker: JsonObject | None, world: World, *, cluster: bool) -> _Parts:
    namespace = name_of(trigger).namespace
    return _Parts(
        filter=_filter(trigger),
        subscriber=resolve(child(trigger, "spec", "subscriber"), namespace, world, cluster=cluster),
        sink=_sink(trigger, broker, world, cluster=cluster),
        delivery=_delivery(trigger, broker),
        max_in_flight=_annotated(max_in_flight_of, trigger),
        order=_annotated(order_of, trigger),
        rate=_annotated(rate_of, trigger),
        paused=_annotated(is_paused, trigger),
    )


def _sink(
    trigger: JsonObject, broker: JsonObject | None, world: World, *, cluster: bool
) -> Destination | Unresolved | None:
    """The Trigger's own dead letter sink, else the Broker's: also where the Trigger's delivery spec is its own."""
    own = dead_letter_sink(trigger, world, cluster=cluster)
    return own if own is not None or broker is None else dead_letter_sink(broker, world, cluster=cluster)


def _filter(trigger: JsonObject) -> Filter | _Problem:
    if faults := joined(filter_faults(trigger)):
        return _Problem("InvalidFilter", faults)
    try:
        return parse_filter(child(trigger, "spec"))
    except InvalidFilter as error:
        return _Problem("InvalidFilter", str(error))


def _delivery(trigger: JsonObject, broker: JsonObject | None) -> DeliverySpec | _Problem:
    """The Trigger's delivery spec as a whole, else the Broker's, else the default."""
    for owner, whose in ((trigger, ""), (broker, "the Broker's ")):
        spec = child(owner, "spec").get("delivery")
        if spec is None:
            continue
        if faults := joined(attempt_errors(spec, "spec.delivery")):
            return _Problem("InvalidDelivery", f"{whose}{faults}")
        try:
            return parse_delivery(spec, "spec.delivery")
        except InvalidDelivery as error:
            return _Problem("InvalidDelivery", f"{whose}{error}")
    return DEFAULT_DELIVERY


def _annotated(read: Callable[[JsonObject], T], trigger: JsonObject) -> T | _Problem:
    try:
        return read(trigger)
    except InvalidAnnotation as error:
        return _Problem("InvalidAnnotation", str(error))


# --- conditions ------------------------------------------------------------------------------------------------------


def _broker_ready(trigger: JsonObject, broker: JsonObject | None) -> Condition:
    if broker is None:
        message = f'Broker "{broker_key(trigger).name}" does not exist'
        return Condition("BrokerReady", FALSE, "BrokerDoesNotExist", message)
    ready = condition_of(broker, "Ready")
    if ready is None or child(broker, "status").get("observedGeneration") != generation_of(broker):
        return Condition("BrokerReady", UNKNOWN, "BrokerNotConfigured", "Broker has not yet been reconciled.")
    return Condition("BrokerReady", string(ready, "status"), string(ready, "reason"), string(ready, "message"))


def _subscriber_resolved(subscriber: Destination | Unresolved) -> Condition:
    if isinstance(subscriber, Unresolved):
        reason = "Unable to get the Subscriber's URI"
        return Condition("SubscriberResolved", FALSE, reason, subscriber.message)
    return Condition("SubscriberResolved")


def _filter_ready(found: Filter | _Problem) -> Condition:
    if isinstance(found, _Problem):
        return Condition("FilterReady", FALSE, found.reason, found.message)
    return Condition("FilterReady")


def _subscription_ready(trigger: JsonObject, parts: _Parts, facts: TriggerFacts) -> Condition:
    name = "SubscriptionReady"
    for part in (*_settings(parts), _start(trigger, facts)):
        if isinstance(part, _Problem):
            return Condition(name, FALSE, part.reason, part.message)
    if facts.problem:
        return Condition(name, FALSE, "NotSubscribed", facts.problem)
    if not facts.start_stored:
        return Condition(name, UNKNOWN, "SubscriptionNotConfigured", "The start position is not stored yet.")
    if facts.loaded_generation is None or facts.loaded_generation < generation_of(trigger):
        message = "The data plane has not loaded this generation of the Trigger yet."
        return Condition(name, UNKNOWN, "NotLoaded", message)
    if parts.paused:
        return Condition(
            name, reason="Paused", message=f'The annotation {PAUSED} is "true": events wait in the channel.'
        )
    return Condition(name)


def _start(trigger: JsonObject, facts: TriggerFacts) -> _Problem | None:
    """What is wrong with the start; it is read once, so that it does not matter after it was stored."""
    if facts.start_stored:
        return None
    try:
        start_of(trigger)
    except InvalidAnnotation as error:
        return _Problem("InvalidAnnotation", str(error))
    return None


def _settings(parts: _Parts) -> tuple[object, ...]:
    """The parts that say how to deliver."""
    return parts.delivery, parts.max_in_flight, parts.order, parts.rate, parts.paused


def _annotations_supported(trigger: JsonObject) -> Iterator[Condition]:
    if names := unknown(trigger):
        message = f"These annotations do not exist: {', '.join(names)}."
        yield Condition("AnnotationsSupported", FALSE, "UnknownAnnotations", message, WARNING)


# --- the route -------------------------------------------------------------------------------------------------------


def _route(trigger: JsonObject, parts: _Parts) -> TriggerRoute:
    return TriggerRoute(
        uid=uid_of(trigger),
        name=name_of(trigger),
        generation=generation_of(trigger),
        filter=None if isinstance(parts.filter, _Problem) else parts.filter,
        subscriber=parts.subscriber if isinstance(parts.subscriber, Destination) else None,
        dead_letter_sink=parts.sink if isinstance(parts.sink, Destination) else None,
        delivery=parts.delivery if isinstance(parts.delivery, DeliverySpec) else DEFAULT_DELIVERY,
        max_in_flight=DEFAULT_IN_FLIGHT if isinstance(parts.max_in_flight, _Problem) else parts.max_in_flight,
        order=parts.order if isinstance(parts.order, Order) else Order.NONE,
        rate=parts.rate if isinstance(parts.rate, float) else None,
        held="; ".join(_holding(parts)),
    )


def _holding(parts: _Parts) -> Iterator[str]:
    """Why nothing may be delivered. An unresolved dead letter sink holds too: failures would lose their way."""
    for part in (parts.filter, *_settings(parts)):
        if isinstance(part, _Problem):
            yield part.message
    if isinstance(parts.subscriber, Unresolved):
        yield f"subscriber: {parts.subscriber.message}"
    if isinstance(parts.sink, Unresolved):
        yield f"dead letter sink: {parts.sink.message}"
    if parts.paused is True:
        yield f'the annotation {PAUSED} is "true"'
