"""Where an event goes and how hard Penstock tries: destination, delivery spec, retry rules. Pure decisions only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

DEFAULT_TIMEOUT = 600.0
"""Seconds that one attempt may take where the delivery spec says nothing (as the Knative Kafka broker has it)."""

MAX_BACKOFF = 24 * 3600.0
"""Seconds that a back-off is capped at where no `backoffMax` is set: doubling would overflow otherwise."""

JITTER = 0.1
"""Share of a back-off that may be added, never subtracted, so that subscribers that failed together do not return so."""


class BackoffPolicy(StrEnum):
    """How the back-off grows with the number of the retry."""

    LINEAR = "linear"
    EXPONENTIAL = "exponential"


class Format(StrEnum):
    """`delivery.format`: the content mode in which events are sent."""

    BINARY = "binary"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Destination:
    """A resolved address: an absolute http(s) `url`, and PEM certificates to trust beside the system's for it."""

    url: str
    ca_certs: str = ""
    audience: str = ""


@dataclass(frozen=True, slots=True)
class DeliverySpec:
    """How deliveries of one Trigger are tried, all times in seconds.

    `retry` counts the attempts after the first. `retry_after_max` None means that `Retry-After` is not honoured.
    """

    retry: int = 0
    backoff_policy: BackoffPolicy = BackoffPolicy.EXPONENTIAL
    backoff_delay: float = 0.2
    backoff_max: float = MAX_BACKOFF
    timeout: float = DEFAULT_TIMEOUT
    retry_after_max: float | None = None
    format: Format = Format.BINARY


DEFAULT_DELIVERY = DeliverySpec(retry=10)
"""Used where neither the Trigger nor its Broker has a delivery spec: retry 10, exponential, PT0.2S."""


def is_retryable(status: int) -> bool:
    """Whether an HTTP status may be tried again: 404, 408, 409, 429, every 5xx, and 600 and above."""
    return status in (404, 408, 409, 429) or status >= 500


def backoff(spec: DeliverySpec, retry: int, *, jitter: float, retry_after: float | None = None) -> float:
    """Seconds to wait before retry number `retry` (the first is 1).

    Linear is delay x retry, exponential delay x 2^(retry - 1), both capped at `backoff_max`. `jitter` is a random number
    in [0, 1) that the caller draws; up to a tenth of the back-off is added. `retry_after` is what the subscriber asked
    for, in seconds: the wait is not shorter than it, as far as `retry_after_max` allows.
    """
    if spec.backoff_policy is BackoffPolicy.LINEAR:
        delay = spec.backoff_delay * retry
    else:
        # 2^64 is past every cap, and the exponent of a float must stay small.
        delay = spec.backoff_delay * 2.0 ** min(retry - 1, 64)
    delay = min(delay, spec.backoff_max, MAX_BACKOFF)
    delay += delay * JITTER * jitter
    if retry_after is not None and spec.retry_after_max is not None:
        delay = max(delay, min(retry_after, spec.retry_after_max))
    return delay
