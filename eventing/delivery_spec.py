"""From `spec.delivery` of a Broker or Trigger to a DeliverySpec. The dead letter sink is resolved elsewhere."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from eventing.attributes import quote
from eventing.delivery import DEFAULT_DELIVERY, DEFAULT_TIMEOUT, MAX_BACKOFF, BackoffPolicy, DeliverySpec, Format
from eventing.durations import parse_duration
from eventing.errors import InvalidDelivery

if TYPE_CHECKING:
    from collections.abc import Mapping

_Choice = TypeVar("_Choice", bound=StrEnum)

_DEFAULT_DELAY: Final = 0.2
_MOST_RETRIES: Final = 2**31 - 1


def parse_delivery(spec: Mapping[str, Any] | None, path: str) -> DeliverySpec:
    """The delivery spec at `path` (`spec.delivery`) of an object; None gives the defaults of DEFAULT_DELIVERY.

    A spec without `retry` means no retry, a `retryAfterMax` of zero that `Retry-After` is not honoured. Fields that are
    null count as absent; unknown ones and `deadLetterSink` are not looked at. Raises InvalidDelivery with the path of
    the field.
    """
    if spec is None:
        return DEFAULT_DELIVERY
    return DeliverySpec(
        retry=_retry(spec, path),
        backoff_policy=_choice(spec, "backoffPolicy", path, BackoffPolicy.EXPONENTIAL),
        backoff_delay=_or(_seconds(spec, "backoffDelay", path), _DEFAULT_DELAY),
        backoff_max=_or(_positive(spec, "backoffMax", path), MAX_BACKOFF),
        timeout=_or(_positive(spec, "timeout", path), DEFAULT_TIMEOUT),
        retry_after_max=_seconds(spec, "retryAfterMax", path) or None,
        format=_choice(spec, "format", path, Format.BINARY),
    )


def _retry(spec: Mapping[str, Any], path: str) -> int:
    retry = spec.get("retry")
    if retry is None:
        return 0
    if isinstance(retry, bool) or not isinstance(retry, int) or not 0 <= retry <= _MOST_RETRIES:
        raise InvalidDelivery(f"{path}.retry", "retry is a whole number, 0 or more")
    return retry


def _positive(spec: Mapping[str, Any], field: str, path: str) -> float | None:
    seconds = _seconds(spec, field, path)
    if seconds == 0:
        raise InvalidDelivery(f"{path}.{field}", f"{field} must be longer than zero: leave it out for the default")
    return seconds


def _seconds(spec: Mapping[str, Any], field: str, path: str) -> float | None:
    text = spec.get(field)
    if text is None:
        return None
    if not isinstance(text, str):
        raise InvalidDelivery(f"{path}.{field}", "a duration is text: write it like PT0.2S, PT1M30S or P1D")
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise InvalidDelivery(f"{path}.{field}", str(error)) from error
    if seconds < 0:
        raise InvalidDelivery(f"{path}.{field}", f"{quote(text)} is negative: {field} is zero or longer")
    return seconds


def _choice(spec: Mapping[str, Any], field: str, path: str, default: _Choice) -> _Choice:
    value = spec.get(field)
    if value is None:
        return default
    for choice in type(default):
        if value == choice.value:
            return choice
    raise InvalidDelivery(f"{path}.{field}", f"{field} is one of {', '.join(type(default))}")


def _or(seconds: float | None, default: float) -> float:
    return default if seconds is None else seconds
