"""Triggers that lag catch up without delaying those that keep up.

A Trigger with a backlog always has something to send, so it would take all the time of the event loop and of a core that it
can get, and the events of everybody else would wait for it at each of their steps. So while others are served, those that
catch up send for a moment and then rest, and their checkpoints are not hurried. With nobody else to serve they do not rest.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

SLICE: Final = 0.0001
"""Seconds for which lanes that catch up may begin deliveries."""

REST: Final = 0.004
"""Seconds for which they begin none after that."""

ALONE: Final = 0.1
"""Seconds without a delivery of anybody else, after which they need not rest."""


class Loop(Protocol):
    """What is used of an event loop."""

    def time(self) -> float:
        """Seconds."""
        ...

    def call_later(self, delay: float, callback: Callable[[], None]) -> object:
        """Call it in `delay` seconds."""
        ...


class CatchUp:
    """When lanes that catch up may send: all of a process share its time. The loop is the running one unless given."""

    def __init__(self, loop: Loop | None = None) -> None:
        self._given = loop
        self.others = 0
        """How many deliveries of lanes that keep up have been begun; they count here."""
        self._others_seen = 0
        self._others_at = 0.0
        self._slice_ends = 0.0
        self._resting = False
        self._waiting: dict[Callable[[], None], None] = {}

    @property
    def _loop(self) -> Loop:
        return self._given or asyncio.get_running_loop()

    @property
    def alone(self) -> bool:
        """Whether nobody else has been served lately."""
        return self.others == self._others_seen and self._loop.time() - self._others_at >= ALONE

    def may_send(self, again: Callable[[], None]) -> bool:
        """Whether a lane may begin a delivery now; if not, `again` is called when it may."""
        if not self._resting:
            now = self._loop.time()
            if now < self._slice_ends or not self._must_rest(now):
                return True
            self._resting = True
            self._loop.call_later(REST, self._go_on)
        self._waiting[again] = None
        return False

    def _must_rest(self, now: float) -> bool:
        if self.others != self._others_seen:
            self._others_seen = self.others
            self._others_at = now
        rests = now - self._others_at < ALONE and now < self._slice_ends + REST
        self._slice_ends = now + SLICE
        return rests

    def _go_on(self) -> None:
        self._resting = False
        self._slice_ends = self._loop.time() + SLICE
        waiting, self._waiting = self._waiting, {}
        for again in waiting:
            again()
