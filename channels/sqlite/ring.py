"""The newest records of all logs, kept in memory up to a number of bytes, so that readers that keep up need no disk."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

from channels.records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventing.event import Event

OVERHEAD: Final = 1024
"""Bytes that a record takes in memory besides head and data: mostly its attributes."""

LogRing: TypeAlias = dict[int, Record]
"""The records of one log by position, without gaps."""


class Ring:
    """A byte budget that the rings of all logs share. What came first goes first, whatever its log."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._order: deque[tuple[LogRing, int, int]] = deque()

    def add(self, ring: LogRing, first: int, time: float, events: Sequence[Event]) -> None:
        """Keep the next events of a log, which stand at `first` and behind; drop the oldest ones where there is no room."""
        for position, event in enumerate(events, first):
            size = len(event.head) + len(event.data) + OVERHEAD
            ring[position] = Record(position, time, event)
            self._order.append((ring, position, size))
            self._size += size
        while self._size > self._limit:
            oldest, position, size = self._order.popleft()
            del oldest[position]
            self._size -= size


def take(ring: LogRing, after: int, limit: int, size: int) -> tuple[Record, ...]:
    """The records above `after`: up to `limit` of them, up to `size` bytes but one at least; none where it has none."""
    found: list[Record] = []
    position = after + 1
    while len(found) < limit and (record := ring.get(position)) is not None:
        size -= record.event.size
        if size < 0 and found:
            break
        found.append(record)
        position += 1
    return tuple(found)
