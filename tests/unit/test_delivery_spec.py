"""`spec.delivery` becomes a DeliverySpec, or is refused with the path of the field."""

from __future__ import annotations

from typing import Any

import pytest

from eventing.delivery import DEFAULT_DELIVERY, DEFAULT_TIMEOUT, MAX_BACKOFF, BackoffPolicy, DeliverySpec, Format
from eventing.delivery_spec import parse_delivery
from eventing.errors import InvalidDelivery


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        pytest.param(None, DEFAULT_DELIVERY, id="none"),
        pytest.param({}, DeliverySpec(retry=0), id="empty-means-no-retry"),
        pytest.param({"deadLetterSink": {"uri": "http://x"}}, DeliverySpec(retry=0), id="only-a-sink"),
        pytest.param({"retry": 3}, DeliverySpec(retry=3), id="retry"),
        pytest.param({"retry": None, "timeout": None, "format": None}, DeliverySpec(), id="null-is-absent"),
        pytest.param(
            {
                "retry": 5,
                "backoffPolicy": "linear",
                "backoffDelay": "PT1S",
                "backoffMax": "PT1M",
                "timeout": "PT5S",
                "retryAfterMax": "PT2M",
                "format": "json",
            },
            DeliverySpec(5, BackoffPolicy.LINEAR, 1.0, 60.0, 5.0, 120.0, Format.JSON),
            id="all",
        ),
        pytest.param({"backoffDelay": "PT0S"}, DeliverySpec(backoff_delay=0.0), id="no-delay"),
        pytest.param({"retryAfterMax": "PT0S"}, DeliverySpec(retry_after_max=None), id="retry-after-ignored"),
    ],
)
def test_a_spec_is_read(spec: dict[str, Any] | None, wanted: DeliverySpec) -> None:
    assert parse_delivery(spec, "spec.delivery") == wanted


def test_the_defaults_are_those_of_the_design() -> None:
    spec = parse_delivery({}, "spec.delivery")
    assert (spec.backoff_policy, spec.backoff_delay) == (BackoffPolicy.EXPONENTIAL, 0.2)
    assert (spec.timeout, spec.backoff_max, spec.format) == (DEFAULT_TIMEOUT, MAX_BACKOFF, Format.BINARY)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("retry", -1),
        ("retry", "3"),
        ("retry", True),
        ("retry", 1.5),
        ("retry", 2**31),
        ("backoffPolicy", "Linear"),
        ("backoffPolicy", 1),
        ("backoffPolicy", ["linear"]),
        ("backoffDelay", "1s"),
        ("backoffDelay", 1),
        ("backoffDelay", "-PT1S"),
        ("backoffMax", "PT0S"),
        ("backoffMax", "-PT1S"),
        ("timeout", "PT0S"),
        ("timeout", "PT-1S"),
        ("timeout", ""),
        ("retryAfterMax", "-PT1S"),
        ("format", "JSON"),
        ("format", {}),
    ],
)
def test_a_bad_field_is_refused_with_its_path(field: str, value: object) -> None:
    with pytest.raises(InvalidDelivery) as caught:
        parse_delivery({field: value}, "spec.delivery")
    assert caught.value.path == f"spec.delivery.{field}"
