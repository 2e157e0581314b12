"""What a lane remembers of its parked deliveries: the next ones that are due, and how many there are."""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

from channels.records import ParkedRef

if TYPE_CHECKING:
    from collections.abc import Sequence


class ParkedQueue:
    """Only the first `keep` are kept, however many the store has: `wants_more` says when to ask it again."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self.count = 0
        """How many the delivery store has, as far as is known."""
        self.size = 0
        """How many bytes their events have."""
        self._most = most
        self._most_bytes = most_bytes
        self._more = False
        self._later: list[tuple[float, str, int]] = []
        self._due: deque[ParkedRef] = deque()

    @property
    def full(self) -> bool:
        """Whether no more may be parked: there are as many, or as many bytes, as allowed."""
        return self.count >= self._most or self.size >= self._most_bytes

    def stored(self, size: int) -> None:
        """The store has one more delivery, whose event has `size` bytes."""
        self.count += 1
        self.size += size

    def removed(self, size: int) -> None:
        """The store has one less."""
        self.count -= 1
        self.size -= size

    @property
    def next_due(self) -> float | None:
        """When the next one is due (Unix s) that is not due already."""
        return self._later[0][0] if self._later else None

    @property
    def wants_more(self) -> bool:
        """Whether the store has some that are not known here, and those known are through."""
        return self._more and not self._later and not self._due

    def add(self, ref: ParkedRef, keep: int) -> bool:
        """Remember a delivery. True when it is due before all others."""
        if len(self._later) >= keep:
            self._more = True
            return False
        heapq.heappush(self._later, (ref.due, ref.id, ref.size))
        return self._later[0][1] == ref.id

    def refill(self, refs: Sequence[ParkedRef], keep: int, *, more: bool) -> None:
        """What the store answered when it was asked; `more` says that it has others."""
        self._more = more
        known = {delivery for _, delivery, _ in self._later} | {ref.id for ref in self._due}
        for ref in refs:
            if ref.id not in known:
                self.add(ref, keep)

    def take_due(self, now: float) -> None:
        """Make due what is due by `now` (Unix s)."""
        while self._later and self._later[0][0] <= now:
            due, delivery, size = heapq.heappop(self._later)
            self._due.append(ParkedRef(delivery, due, size))

    def peek(self) -> ParkedRef | None:
        """The next one that is due."""
        return self._due[0] if self._due else None

    def pop(self) -> ParkedRef:
        """Take the next one that is due."""
        return self._due.popleft()

    def clear(self) -> None:
        """Forget all."""
        self._later.clear()
        self._due.clear()
        self._more = False
        self.count = self.size = 0
