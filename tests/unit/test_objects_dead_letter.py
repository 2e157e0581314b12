"""A stored delivery as an object that kubectl shows."""

from __future__ import annotations

from channels.records import Attempt, DeliveryRecord, DeliveryState, Failure, LogName, Phase
from controller.objects.dead_letter import dead_letter, dead_letter_kind
from eventing.event import Event
from eventing.routing import ObjectName


def a_record(attempts: tuple[Attempt, ...] = (), failure: Failure | None = None) -> DeliveryRecord:
    return DeliveryRecord(
        id="0123456789abcdef0123456789abcdef",
        trigger="uid-of-trigger",
        trigger_name=ObjectName("ns", "t"),
        log=LogName("ns", "b", "uid-of-broker"),
        partition=0,
        position=7,
        event=Event({"id": "1", "source": "/s", "type": "order"}, b"\xff{}", b""),
        state=DeliveryState.DEAD,
        phase=Phase.SUBSCRIBER,
        due=0.0,
        reason="retries exhausted",
        tries=3,
        attempts=attempts,
        failure=failure,
        created=86400.25,
        updated=86400.25,
    )


def test_dead_letter() -> None:
    """The object has the event, its data whole, and each attempt with its time, address and outcome."""
    attempts = (
        Attempt(1.5, 0.25, "http://a", "refused", None, ""),
        Attempt(2.0, 0.5, "http://a", "status", 503, "busy"),
    )
    letter = dead_letter(a_record(attempts, Failure("http://a", 503, b"no", "retries exhausted")))
    assert letter["apiVersion"] == dead_letter_kind().api_version
    assert letter["metadata"] == {
        "name": "0123456789abcdef0123456789abcdef",
        "namespace": "ns",
        "uid": "01234567-89ab-cdef-0123-456789abcdef",
        "creationTimestamp": "1970-01-02T00:00:00Z",
        "labels": {"eventing.knative.dev/broker": "b", "eventing.knative.dev/trigger": "t"},
    }
    assert letter["spec"] == {
        "trigger": "t",
        "broker": "b",
        "state": "dead",
        "event": {"id": "1", "source": "/s", "type": "order"},
        "data": "/3t9",
        "reason": "retries exhausted",
        "tries": 3,
        "attempts": [
            {"time": "1970-01-01T00:00:01.500000Z", "seconds": 0.25, "url": "http://a", "outcome": "refused"},
            {
                "time": "1970-01-01T00:00:02.000000Z",
                "seconds": 0.5,
                "url": "http://a",
                "outcome": "status",
                "status": 503,
                "detail": "busy",
            },
        ],
        "partition": 0,
        "position": 7,
        "url": "http://a",
        "outcome": "status",
        "failure": {"url": "http://a", "code": 503, "reason": "retries exhausted", "data": "bm8="},
    }


def test_dead_letter_fits_its_schema() -> None:
    """Every field of the object is in the schema, so that none is pruned and `kubectl explain` knows them all."""
    spec = dead_letter(a_record((Attempt(1.5, 0.25, "u", "status", 503, "busy"),), Failure("u", 5, b"", "r")))["spec"]
    properties = dead_letter_kind().schema["properties"]["spec"]["properties"]
    assert spec.keys() <= properties.keys()
    assert spec["attempts"][0].keys() == properties["attempts"]["items"]["properties"].keys()
    assert spec["failure"].keys() == properties["failure"]["properties"].keys()


def test_dead_letter_without_attempts() -> None:
    """A delivery that never was tried (a reply whose passes are used up) has no last address."""
    assert "url" not in dead_letter(a_record())["spec"]
