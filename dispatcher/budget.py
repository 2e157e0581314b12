"""The byte budget of a process: one bound for all events that lanes hold in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class ByteBudget:
    """Counts bytes held against `limit`, and tells who was refused when there is room again.

    An empty budget takes anything, so that an event larger than the limit still gets through, alone.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._refused: set[Callable[[], None]] = set()

    @property
    def used(self) -> int:
        return self._used

    def take(self, size: int, on_room: Callable[[], None]) -> bool:
        """Hold `size` bytes. False when there is no room; `on_room` is then called once there is some."""
        if self._used and self._used + size > self._limit:
            self._refused.add(on_room)
            return False
        self._used += size
        return True

    def force(self, size: int) -> None:
        """Hold `size` bytes whether or not there is room: for what is owed already and must be in memory."""
        self._used += size

    def give_back(self, size: int) -> None:
        """Release bytes. Those refused are called when half of the budget is free, not at each byte."""
        self._used -= size
        if self._refused and self._used <= self._limit // 2:
            refused, self._refused = self._refused, set()
            for on_room in refused:
                on_room()
