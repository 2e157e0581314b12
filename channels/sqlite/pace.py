"""When the next transaction begins: at once, or a moment later together with what comes meanwhile.

A commit costs as much as two deliveries, and the hops to the writer's thread and back come on top. So while requests come
one by one, but close together, commits keep an interval. Publishers that send the next event only after the answer to
the last would wait in vain: all that they send comes at the beginning of a wait and nothing later. Then the interval is
left out for a while.
"""

from __future__ import annotations

from typing import Final

ENOUGH: Final = 16
"""At so many requests a commit is worth its price, and waiting longer gains little."""

_BEGINNING: Final = 1 / 3
"""What share of a wait is its beginning."""

_IN_VAIN: Final = 3
_REST: Final = 0.3
"""After so many waits in a row in which nothing came later, none is made for so many seconds."""


class CommitPace:
    """Decides on the clock that it is told; `interval` in seconds, 0 for none."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._last_begin = 0.0
        self._waits_again = 0.0
        self._wait_began = 0.0
        self._latest = 0.0
        self._in_vain = 0

    def delay(self, now: float) -> float:
        """How long (s) a request that finds nobody waiting should wait for others: 0 for not at all."""
        self._wait_began = self._latest = now
        return max(0.0, self._last_begin + self._interval - now) if now >= self._waits_again else 0.0

    def joined(self, now: float) -> None:
        """Another request came while the first waits."""
        self._latest = now

    def began(self, now: float, *, waited: bool) -> None:
        """A transaction begins with those that are there; they `waited` for others or did not."""
        self._last_begin = now
        if not waited:
            return
        came_later = self._latest > self._wait_began + (now - self._wait_began) * _BEGINNING
        self._in_vain = 0 if came_later else self._in_vain + 1
        if self._in_vain >= _IN_VAIN:
            self._in_vain = 0
            self._waits_again = now + _REST
