"""The `penstock.dev/` annotations of a Trigger, which are valid YAML on every other Broker."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from controller.objects.views import annotation, annotations_of
from eventing.routing import Order

if TYPE_CHECKING:
    from controller.objects.kind import JsonObject

PREFIX = "penstock.dev/"
MAX_IN_FLIGHT = "penstock.dev/max-in-flight"
START = "penstock.dev/start"
PAUSED = "penstock.dev/paused"
LOCAL_URL = "penstock.dev/local-url"
"""On a Service: where it answers on this machine, for use without a cluster."""

DEFAULT_IN_FLIGHT = 100
HIGHEST_IN_FLIGHT = 10_000

RATE = "penstock.dev/rate"
ORDER = "penstock.dev/order"
KAFKA_ORDER = "kafka.eventing.knative.dev/delivery.order"
"""What Knative's Kafka Broker calls it: `ordered` is our `key`, `unordered` our `none`."""

_READ = frozenset({MAX_IN_FLIGHT, START, PAUSED, RATE, ORDER})
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)/(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_KAFKA_ORDERS = {"": Order.NONE, "unordered": Order.NONE, "ordered": Order.KEY}
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


class InvalidAnnotation(Exception):
    """An annotation cannot be used; `detail` says what it takes."""

    def __init__(self, name: str, value: str, detail: str) -> None:
        super().__init__(f"metadata.annotations[{name}]: {value!r} is not usable, {detail}")
        self.name = name


class StartFrom(StrEnum):
    """Where a new Trigger begins in its Broker's log."""

    NOW = "now"
    EARLIEST = "earliest"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Start:
    """Where a new Trigger begins: `time` (Unix s) counts with `StartFrom.TIME` alone."""

    where: StartFrom = StartFrom.NOW
    time: float = 0.0


def start_of(trigger: JsonObject) -> Start:
    """`penstock.dev/start`: `now` (the default), `earliest` or an RFC 3339 time; raises InvalidAnnotation."""
    value = annotation(trigger, START)
    if value in ("", "now"):
        return Start()
    if value == "earliest":
        return Start(StartFrom.EARLIEST)
    detail = "use now, earliest, or a time such as 2026-01-31T12:00:00Z"
    if not _RFC3339.fullmatch(value):
        raise InvalidAnnotation(START, value, detail)
    try:
        return Start(StartFrom.TIME, datetime.fromisoformat(value.upper()).timestamp())
    except (ValueError, OverflowError) as error:
        raise InvalidAnnotation(START, value, detail) from error


def max_in_flight_of(trigger: JsonObject) -> int:
    """`penstock.dev/max-in-flight`: how many deliveries of the Trigger may be under way; raises InvalidAnnotation."""
    value = annotation(trigger, MAX_IN_FLIGHT)
    if not value:
        return DEFAULT_IN_FLIGHT
    if not re.fullmatch(r"[0-9]{1,5}", value) or not 1 <= int(value) <= HIGHEST_IN_FLIGHT:
        raise InvalidAnnotation(MAX_IN_FLIGHT, value, f"use a whole number from 1 to {HIGHEST_IN_FLIGHT}")
    return int(value)


def is_paused(trigger: JsonObject) -> bool:
    """`penstock.dev/paused`: whether the Trigger is to keep its place and deliver nothing; raises InvalidAnnotation."""
    value = annotation(trigger, PAUSED)
    if value not in ("", "true", "false"):
        raise InvalidAnnotation(PAUSED, value, 'use "true" or "false"')
    return value == "true"


def order_of(trigger: JsonObject) -> Order:
    """`penstock.dev/order`, else what Knative's Kafka annotation says; raises InvalidAnnotation."""
    value = annotation(trigger, ORDER)
    if not value:
        kafka = annotation(trigger, KAFKA_ORDER)
        if kafka not in _KAFKA_ORDERS:
            raise InvalidAnnotation(KAFKA_ORDER, kafka, "use ordered or unordered")
        return _KAFKA_ORDERS[kafka]
    try:
        return Order(value)
    except ValueError as error:
        raise InvalidAnnotation(ORDER, value, "use none, key or all") from error


def rate_of(trigger: JsonObject) -> float | None:
    """`penstock.dev/rate`, as deliveries a second: `50/s`, `100/m`, `10/h`; raises InvalidAnnotation."""
    value = annotation(trigger, RATE)
    if not value:
        return None
    found = _RATE.fullmatch(value)
    if found is None or not float(found[1]):
        raise InvalidAnnotation(RATE, value, "use a number above 0 and a unit, such as 50/s, 100/m or 10/h")
    return float(found[1]) / _SECONDS[found[2]]


SKIPPED = "penstock.dev/skipped"
"""On a Trigger's status: retention removed events before the Trigger had them."""

FULL = "penstock.dev/full"
"""On a Broker's status: how many per cent of the room for new events are taken, in steps; not there below the first."""


def lane_notes(doing: str, behind: int, parked: int, skipped: int) -> dict[str, str | None]:
    """How a Trigger's status says what its lane does: annotations of the status, None for those that are to go.

    That events were skipped stays true after a restart, when nobody counts them any more.
    """
    notes: dict[str, str | None] = {
        f"{PREFIX}lane": doing or None,
        f"{PREFIX}behind": f"{behind} positions at most" if behind else None,
        f"{PREFIX}parked": str(parked) if parked else None,
    }
    return {**notes, SKIPPED: f"{skipped} positions at most"} if skipped else notes


def loaded_note(partition: int) -> str:
    """On a Trigger's status: the generation of it that the owner of this partition serves, where that is another process."""
    return f"{PREFIX}loaded-{partition}"


def number_of(notes: JsonObject, name: str) -> int | None:
    """The number in an annotation of a status, None where there is none."""
    value = notes.get(name)
    return int(value) if isinstance(value, str) and value.isdecimal() else None


def unknown(trigger: JsonObject) -> tuple[str, ...]:
    """The `penstock.dev/` annotations that a Trigger does not have (often misspelt ones), sorted."""
    return tuple(name for name in without_effect(trigger) if name not in _READ)


def without_effect(broker: JsonObject) -> tuple[str, ...]:
    """The `penstock.dev/` annotations of a Broker, sorted: none means anything there."""
    return tuple(sorted(name for name in annotations_of(broker) if name.startswith(PREFIX)))
