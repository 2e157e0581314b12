"""The penstock.dev annotations of Triggers."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.objects.annotations import (
    InvalidAnnotation,
    Start,
    StartFrom,
    is_paused,
    max_in_flight_of,
    order_of,
    rate_of,
    start_of,
    unknown,
)
from eventing.routing import Order


def annotated(**annotations: str) -> dict[str, Any]:
    return {
        "metadata": {"annotations": {f"penstock.dev/{name.replace('_', '-')}": v for name, v in annotations.items()}}
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", Start()),
        ("now", Start(StartFrom.NOW)),
        ("earliest", Start(StartFrom.EARLIEST)),
        ("1970-01-02T00:00:00Z", Start(StartFrom.TIME, 86400.0)),
        ("1970-01-01t02:00:00.5+01:00", Start(StartFrom.TIME, 3600.5)),
    ],
)
def test_start(value: str, expected: Start) -> None:
    """A Trigger starts now, at the earliest event, or at a time."""
    assert start_of(annotated(start=value)) == expected


@pytest.mark.parametrize(
    "value", ["latest", "2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "20260101T000000Z"]
)
def test_bad_start(value: str) -> None:
    """Any other start is an error that names the annotation and what it takes."""
    with pytest.raises(InvalidAnnotation, match=r"annotations\[penstock.dev/start\].*use now, earliest"):
        start_of(annotated(start=value))


@pytest.mark.parametrize(("value", "expected"), [("", 100), ("1", 1), ("10000", 10_000)])
def test_max_in_flight(value: str, expected: int) -> None:
    """The window is 100 unless it is set."""
    assert max_in_flight_of(annotated(max_in_flight=value)) == expected


@pytest.mark.parametrize("value", ["0", "10001", "-1", "1.5", " 5", "ten", "٣", "999999999999"])
def test_bad_max_in_flight(value: str) -> None:
    """A window that is no number within the bounds is an error that names them."""
    with pytest.raises(InvalidAnnotation, match="from 1 to 10000"):
        max_in_flight_of(annotated(max_in_flight=value))


@pytest.mark.parametrize(("value", "expected"), [("", False), ("false", False), ("true", True)])
def test_paused(value: str, expected: bool) -> None:
    """A Trigger is paused by "true"."""
    assert is_paused(annotated(paused=value)) is expected


def test_bad_paused() -> None:
    """A pause that is neither yes nor no is an error."""
    with pytest.raises(InvalidAnnotation, match='use "true" or "false"'):
        is_paused(annotated(paused="yes"))


def test_annotations_without_effect_are_named() -> None:
    """What is misspelt is named; annotations of others are not looked at."""
    trigger = annotated(rate="50/s", max_inflight="5", start="now")
    trigger["metadata"]["annotations"]["example.com/x"] = "y"
    assert unknown(trigger) == ("penstock.dev/max-inflight",)


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({}, Order.NONE),
        ({"penstock.dev/order": "key"}, Order.KEY),
        ({"penstock.dev/order": "all"}, Order.ALL),
        ({"kafka.eventing.knative.dev/delivery.order": "ordered"}, Order.KEY),
        ({"kafka.eventing.knative.dev/delivery.order": "unordered"}, Order.NONE),
        ({"kafka.eventing.knative.dev/delivery.order": "ordered", "penstock.dev/order": "none"}, Order.NONE),
    ],
)
def test_order(annotations: dict[str, str], expected: Order) -> None:
    """Our annotation counts before that of Knative's Kafka Broker."""
    assert order_of({"metadata": {"annotations": annotations}}) is expected


@pytest.mark.parametrize(
    ("value", "expected"), [("", None), ("50/s", 50.0), ("90/m", 1.5), ("36/h", 0.01), ("0.5/s", 0.5)]
)
def test_rate(value: str, expected: float | None) -> None:
    """A rate has a unit."""
    assert rate_of(annotated(rate=value)) == expected


@pytest.mark.parametrize("value", ["0/s", "50", "50/d", "-1/s", "fast"])
def test_bad_rate(value: str) -> None:
    """A rate that cannot be used says how one looks."""
    with pytest.raises(InvalidAnnotation, match="such as 50/s"):
        rate_of(annotated(rate=value))


@pytest.mark.parametrize("name", ["penstock.dev/order", "kafka.eventing.knative.dev/delivery.order"])
def test_bad_order(name: str) -> None:
    """An order that does not exist is an error, whoever's word it is."""
    with pytest.raises(InvalidAnnotation, match="use "):
        order_of({"metadata": {"annotations": {name: "random"}}})


@given(st.text())
def test_any_text_is_a_value_or_an_error(value: str) -> None:
    """No annotation makes a parser fail in another way."""
    for parse in (start_of, max_in_flight_of, is_paused, rate_of, order_of):
        with contextlib.suppress(InvalidAnnotation):
            parse(annotated(start=value, max_in_flight=value, paused=value, rate=value, order=value))
