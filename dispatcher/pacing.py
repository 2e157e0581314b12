"""When the next delivery of a lane may go out: after those with its key, and not faster than its Trigger allows."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from eventing.routing import Order

if TYPE_CHECKING:
    from channels.records import Record
    from eventing.event import Event

BURST = 0.1
"""Seconds of its rate that a Trigger may use at once, so that a high rate does not need a timer for each delivery."""


class KeyGate:
    """Lets events of one key through one at a time, in the order in which they came; the others wait here.

    With `Order.NONE`, and without a `partitionkey`, an event has no key and never waits.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._flying: dict[str, int] = {}
        self._waiting: dict[str, deque[Record]] = {}
        self.waiting = 0

    def is_busy(self, event: Event) -> bool:
        """Whether the event would have to wait."""
        if not self._flying:
            return False
        key = self._key(event)
        return key is not None and key in self._flying

    def enter(self, record: Record) -> bool:
        """True when the record may go out now; else it waits here, and `leave` gives it back."""
        if self._order is Order.NONE:
            return True
        key = self._key(record.event)
        if key is None:
            return True
        if key in self._flying:
            self._waiting.setdefault(key, deque()).append(record)
            self.waiting += 1
            return False
        self._flying[key] = 1
        return True

    def occupy(self, event: Event) -> None:
        """An event is out that did not come through here: those with its key wait for it as well."""
        key = self._key(event)
        if key is not None:
            self._flying[key] = self._flying.get(key, 0) + 1

    def leave(self, event: Event) -> Record | None:
        """An event that was let through has ended: the next with its key, which counts as let through."""
        if not self._flying:
            return None
        key = self._key(event)
        if key is None or key not in self._flying:
            return None
        if self._flying[key] > 1:
            self._flying[key] -= 1
            return None
        waiting = self._waiting.get(key)
        if not waiting:
            del self._flying[key]
            return None
        self.waiting -= 1
        record = waiting.popleft()
        if not waiting:
            del self._waiting[key]
        return record

    def _key(self, event: Event) -> str | None:
        if self._order is Order.NONE:
            return None
        return "" if self._order is Order.ALL else event.attributes.get("partitionkey")


class Pace:
    """A token bucket: `rate` deliveries a second (None for any number), and a pause that a subscriber asked for."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._tokens = 1.0
        self._filled = 0.0
        self._not_before = 0.0

    @property
    def rate(self) -> float | None:
        return self._rate

    def change(self, rate: float | None) -> None:
        """Go on with another rate."""
        self._rate = rate

    def pause(self, until: float) -> None:
        """Let nothing go before `until`, on the clock that `wait` and `take` are asked with."""
        self._not_before = max(self._not_before, until)

    def wait(self, now: float) -> float:
        """Seconds until the next delivery may go; 0 when it may go now, and then `take` takes its place."""
        if now < self._not_before:
            return self._not_before - now
        if self._rate is None:
            return 0.0
        self._fill(self._rate, now)
        return 0.0 if self._tokens >= 1.0 else (1.0 - self._tokens) / self._rate

    def take(self) -> None:
        """A delivery goes."""
        if self._rate is not None:
            self._tokens -= 1.0

    def _fill(self, rate: float, now: float) -> None:
        capacity = max(1.0, rate * BURST)
        self._tokens = min(capacity, self._tokens + (now - self._filled) * rate)
        self._filled = now
