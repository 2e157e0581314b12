"""Conditions as Knative's condition manager keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.objects.views import condition_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.objects.kind import JsonObject

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
INFO, WARNING = "Info", "Warning"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition. `Ready` depends on those without a severity only."""

    type: str
    status: str = TRUE
    reason: str = ""
    message: str = ""
    severity: str = ""


def with_ready(conditions: Sequence[Condition]) -> list[Condition]:
    """The conditions, and `Ready`: it says what the first False one says, else the first Unknown one, else True."""
    counting = [condition for condition in conditions if not condition.severity]
    unhappy = [condition for status in (FALSE, UNKNOWN) for condition in counting if condition.status == status]
    first = unhappy[0] if unhappy else Condition("Ready")
    return [*conditions, Condition("Ready", first.status, first.reason, first.message)]


def to_json(conditions: Sequence[Condition], obj: JsonObject, now: str) -> list[JsonObject]:
    """The conditions sorted by type. One that says what it said in the object's present status keeps its time."""
    return [_timed(condition, condition_of(obj, condition.type), now) for condition in sorted(conditions, key=_type_of)]


def _type_of(condition: Condition) -> str:
    return condition.type


def _timed(condition: Condition, present: JsonObject | None, now: str) -> JsonObject:
    fields = {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "severity": condition.severity,
    }
    written: JsonObject = {name: value for name, value in fields.items() if value}
    time = present.get("lastTransitionTime") if present else None
    if (
        present is None
        or not time
        or {**present, "lastTransitionTime": None} != {**written, "lastTransitionTime": None}
    ):
        time = now
    return {**written, "lastTransitionTime": time}
