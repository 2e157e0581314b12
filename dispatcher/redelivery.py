"""The clock of parked deliveries: wakes their lanes when the first is due, and sleeps when there is none."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dispatcher.lane import Lane


class RedeliveryClock:
    """One timer for all lanes of a partition. It does nothing before `start` and after `stop`."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._running = False

    def start(self) -> None:
        """Begin to wake lanes."""
        self._running = True
        self._schedule()

    def stop(self) -> None:
        """Wake no lane any more."""
        self._running = False
        self._schedule()

    def watch(self, lane: Lane) -> None:
        """The lane has a parked delivery that is due before the others that it knows of."""
        self._lanes[lane] = None
        self._schedule()

    def drop(self, lane: Lane) -> None:
        """The lane is gone."""
        self._lanes.pop(lane, None)

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = min((lane.next_due for lane in self._lanes if lane.next_due is not None), default=None)
        if due is not None and self._running:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - time.time()), self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = time.time()
        for lane in list(self._lanes):
            lane.take_due(now)
            if lane.next_due is None:
                del self._lanes[lane]
        self._schedule()
