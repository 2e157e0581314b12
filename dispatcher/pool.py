"""Connections that wait for their next request, and a count of all that are open."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dispatcher.connection import Connection
    from dispatcher.target import Origin


@dataclass(frozen=True, slots=True)
class PoolStats:
    """How many connections there are. `open` = `idle` + `in_use`."""

    open: int
    idle: int
    in_use: int


class Pool:
    """Keeps idle connections for reuse, the one used last first, so that those not needed grow old.

    `max_idle_per_host` and `max_idle` are numbers of connections, `idle_timeout` is in seconds. The only timer runs
    while there are idle connections.
    """

    def __init__(self, max_idle_per_host: int, max_idle: int, idle_timeout: float) -> None:
        self._max_idle_per_host = max_idle_per_host
        self._max_idle = max_idle
        self._idle_timeout = idle_timeout
        self._loop = asyncio.get_running_loop()
        self._open: set[Connection] = set()
        self._idle: dict[Connection, float] = {}
        """When each became idle, the one that waits longest first."""
        self._by_origin: dict[Origin, list[Connection]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    @property
    def stats(self) -> PoolStats:
        return PoolStats(len(self._open), len(self._idle), len(self._open) - len(self._idle))

    @property
    def closed(self) -> bool:
        return self._emptied is not None

    def opened(self, connection: Connection) -> None:
        """Count a connection that was made."""
        self._open.add(connection)
        if self.closed:
            connection.abort()

    def lost(self, connection: Connection) -> None:
        """A connection is gone, from whatever state."""
        self.forget(connection)
        self._open.discard(connection)
        if self._emptied is not None and not self._open and not self._emptied.done():
            self._emptied.set_result(None)

    def take(self, origin: Origin) -> Connection | None:
        """An idle connection to `origin` that is usable as far as is known, now in use."""
        waiting = self._by_origin.get(origin)
        while waiting:
            connection = waiting.pop()
            del self._idle[connection]
            if not waiting:
                del self._by_origin[origin]
            if connection.usable:
                return connection
        return None

    def put(self, connection: Connection) -> None:
        """Keep a connection that has nothing left to read or write; close it, or the oldest, where there are too many."""
        waiting = self._by_origin.get(connection.origin, [])
        if self.closed or len(waiting) >= self._max_idle_per_host:
            connection.close()
            return
        waiting.append(connection)
        self._by_origin[connection.origin] = waiting
        self._idle[connection] = self._loop.time()
        if len(self._idle) > self._max_idle:
            self._retire(next(iter(self._idle)))
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._idle_timeout, self._sweep)

    def forget(self, connection: Connection) -> None:
        """A connection is not to be used again."""
        if self._idle.pop(connection, None) is None:
            return
        waiting = self._by_origin[connection.origin]
        waiting.remove(connection)
        if not waiting:
            del self._by_origin[connection.origin]

    async def close(self) -> None:
        """Drop all connections, those in use too, and wait until they are gone."""
        self._emptied = self._loop.create_future()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for connection in list(self._open):
            connection.abort()
        if self._open:
            await self._emptied

    def _retire(self, connection: Connection) -> None:
        self.forget(connection)
        connection.close()

    def _sweep(self) -> None:
        self._sweeper = None
        expired = self._loop.time() - self._idle_timeout
        while self._idle:
            oldest, since = next(iter(self._idle.items()))
            if since > expired:
                self._sweeper = self._loop.call_at(since + self._idle_timeout, self._sweep)
                return
            self._retire(oldest)
