"""Which answers are tried again, and how long the wait is before that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventing.delivery import MAX_BACKOFF, BackoffPolicy, DeliverySpec, backoff, is_retryable

LINEAR = DeliverySpec(backoff_policy=BackoffPolicy.LINEAR, backoff_delay=1.0)
EXPONENTIAL = DeliverySpec(backoff_policy=BackoffPolicy.EXPONENTIAL, backoff_delay=1.0)


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 502, 503, 504, 599, 600, 999])
def test_a_status_is_tried_again(status: int) -> None:
    assert is_retryable(status)


@pytest.mark.parametrize("status", [100, 301, 302, 307, 400, 401, 403, 405, 406, 410, 413, 415, 422, 451])
def test_a_status_is_final(status: int) -> None:
    assert not is_retryable(status)


@pytest.mark.parametrize(
    ("spec", "waits"),
    [
        pytest.param(LINEAR, [1, 2, 3, 4], id="linear"),
        pytest.param(EXPONENTIAL, [1, 2, 4, 8], id="exponential"),
        pytest.param(DeliverySpec(backoff_delay=1.0, backoff_max=3.0), [1, 2, 3, 3], id="capped"),
        pytest.param(DeliverySpec(backoff_delay=0.0), [0, 0, 0, 0], id="no-delay"),
    ],
)
def test_the_wait_grows_with_the_retry(spec: DeliverySpec, waits: list[float]) -> None:
    assert [backoff(spec, retry, jitter=0.0) for retry in (1, 2, 3, 4)] == waits


@given(st.sampled_from([LINEAR, EXPONENTIAL]), st.integers(1, 2**31), st.floats(0, 1, exclude_max=True))
def test_jitter_adds_up_to_a_tenth_and_nothing_overflows(spec: DeliverySpec, retry: int, jitter: float) -> None:
    plain = backoff(spec, retry, jitter=0.0)
    assert plain <= MAX_BACKOFF
    assert plain <= backoff(spec, retry, jitter=jitter) <= plain * 1.1 + 1e-9


@pytest.mark.parametrize(
    ("longest", "asked", "wait"),
    [
        pytest.param(None, 30.0, 1.0, id="not-honoured"),
        pytest.param(60.0, 30.0, 30.0, id="honoured"),
        pytest.param(10.0, 30.0, 10.0, id="cut"),
        pytest.param(60.0, 0.5, 1.0, id="shorter-than-the-back-off"),
        pytest.param(60.0, None, 1.0, id="not-asked"),
    ],
)
def test_retry_after_lengthens_the_wait(longest: float | None, asked: float | None, wait: float) -> None:
    spec = DeliverySpec(backoff_delay=1.0, retry_after_max=longest)
    assert backoff(spec, 1, jitter=0.0, retry_after=asked) == wait
