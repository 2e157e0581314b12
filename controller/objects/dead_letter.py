"""DeadLetter (`penstock.dev/v1alpha1`): a delivery of the delivery store as a Kubernetes object, for reading."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from controller.objects import openapi as api
from controller.objects.kind import Column, Kind
from controller.objects.views import BROKER_LABEL
from eventing.timestamps import rfc3339

if TYPE_CHECKING:
    from channels.records import Attempt, DeliveryRecord
    from controller.objects.kind import JsonObject

OPERATIONS = "penstock.dev"
"""The API group of the operations API."""

TRIGGER_LABEL = "eventing.knative.dev/trigger"


def dead_letter_kind() -> Kind:
    """The kind of dead letters. They are not stored as objects: the delivery store is asked for them."""
    return Kind(
        OPERATIONS,
        "v1alpha1",
        "DeadLetter",
        "deadletters",
        "deadletter",
        schema=_schema(),
        short_names=("dl",),
        columns=(
            Column("Trigger", json_path=".spec.trigger"),
            Column("Type", json_path=".spec.event.type"),
            Column("Reason", json_path=".spec.reason"),
            Column("Attempts", "integer", ".spec.tries"),
            Column("Age", "date", ".metadata.creationTimestamp"),
            Column("Broker", json_path=".spec.broker", priority=1),
            Column("Source", json_path=".spec.event.source", priority=1),
            Column("Event", json_path=".spec.event.id", priority=1),
            Column("URL", json_path=".spec.url", priority=1),
        ),
        field_selectors=("spec.trigger", "spec.broker", "spec.state"),
        stored=False,
    )


def dead_letter(record: DeliveryRecord) -> JsonObject:
    """The object that stands for a stored delivery. Its data is base64, its name the id of the delivery."""
    namespace, trigger = record.trigger_name
    spec: JsonObject = {
        "trigger": trigger,
        "broker": record.log.name,
        "state": record.state.value,
        "event": dict(record.event.attributes),
        "data": b64encode(record.event.data).decode("ascii"),
        "reason": record.reason,
        "tries": max(record.tries, len(record.attempts)),
        "attempts": [_attempt(attempt) for attempt in record.attempts],
        "partition": record.partition,
        "position": record.position,
    }
    if record.attempts:
        last = record.attempts[-1]
        spec |= {"url": last.url, "outcome": last.outcome}
    if record.failure is not None:
        spec["failure"] = {
            "url": record.failure.dest,
            "code": record.failure.code,
            "reason": record.failure.reason,
            "data": b64encode(record.failure.data).decode("ascii"),
        }
    return {
        "apiVersion": f"{OPERATIONS}/v1alpha1",
        "kind": "DeadLetter",
        "metadata": {
            "name": record.id,
            "namespace": namespace,
            "uid": str(UUID(hex=record.id)),
            "creationTimestamp": datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "labels": {BROKER_LABEL: record.log.name, TRIGGER_LABEL: trigger},
        },
        "spec": spec,
    }


def _attempt(attempt: Attempt) -> JsonObject:
    made: JsonObject = {
        "time": rfc3339(attempt.time),
        "seconds": round(attempt.duration, 6),
        "url": attempt.url,
        "outcome": attempt.outcome,
    }
    if attempt.status is not None:
        made["status"] = attempt.status
    if attempt.detail:
        made["detail"] = attempt.detail
    return made


def _schema() -> api.Schema:
    attempt = api.record(
        {
            "time": api.text("When it began."),
            "seconds": {"type": "number", "description": "How long it took."},
            "url": api.text("Whom it went to."),
            "outcome": api.text("What came of it: status, refused, timeout, ..."),
            "status": api.integer("The HTTP status that was answered."),
            "detail": api.text("A sentence for people."),
        }
    )
    failure = api.record(
        {
            "url": api.text("The subscriber."),
            "code": api.integer("The HTTP status, 500 where no answer came."),
            "reason": api.text("Why there were no more attempts."),
            "data": api.text("The beginning of the answer's body, base64."),
        },
        "Why the subscriber's part of the delivery ended.",
    )
    spec = api.record(
        {
            "trigger": api.text("The Trigger that the delivery belongs to."),
            "broker": api.text("The Broker whose event it is."),
            "state": api.text("dead, or retrying while its next attempt is planned."),
            "event": api.mapping(api.text(), "The attributes of the event."),
            "data": api.text("The data of the event, base64."),
            "reason": api.text("Why it could not be delivered."),
            "tries": api.integer("How many attempts were made at least."),
            "attempts": api.array(attempt, "The latest attempts."),
            "url": api.text("Whom the last attempt went to."),
            "outcome": api.text("What came of the last attempt."),
            "failure": failure,
            "partition": api.integer("The partition of the log."),
            "position": api.integer("The position in the partition.", bits=64),
        },
        "The event and what became of it.",
    )
    return api.record(
        {"spec": spec}, "An event that could be delivered neither to a Trigger's subscriber nor elsewhere."
    )
