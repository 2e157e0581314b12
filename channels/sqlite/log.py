"""The log of one Broker: one partition, whose positions are 1, 2, 3, ... without gaps."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from channels.channel import check_slot, checked_size
from channels.errors import ChannelError, LogNotFound, PositionExpired
from channels.records import Appended, Bounds, LogStats, Page
from channels.sqlite.changes import apply, check_claim
from channels.sqlite.codec import RECORD_COLUMNS, position_of, record_of, size_of
from channels.sqlite.ring import take
from channels.sqlite.schema import POSITION_MASK, key_of
from channels.sqlite.space import fullness

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from channels.channel import ChannelSettings
    from channels.records import Change, Claim, LogName, Record
    from channels.sqlite.catalog import LogRow
    from channels.sqlite.codec import Row
    from channels.sqlite.reader import Reader
    from channels.sqlite.ring import LogRing, Ring
    from channels.sqlite.transaction import Stored, Transaction, Trimmed
    from channels.sqlite.writer import Writer
    from eventing.event import Event


class SqliteLog:
    """Implements `channels.driver.Log`.

    `_first` and `_next` are what has been published: they and the ring move on the loop, after each commit and in its
    order, so that no reader sees a record before it is durable or after a later one.
    """

    def __init__(
        self,
        name: LogName,
        row: LogRow,
        writer: Writer,
        reader: Reader,
        ring: Ring,
        settings: ChannelSettings,
    ) -> None:
        self._name = name
        self._id = row.id
        self._incarnation = row.incarnation
        self._first = row.first
        self._next = row.next
        self._writer = writer
        self._reader = reader
        self._ring = ring
        self._recent: LogRing = {}
        self._settings = settings
        self._news: asyncio.Event | None = None
        self._ended: ChannelError | None = None
        self.drops_oldest = False
        """Whether a full store makes room for new events at the cost of this log's oldest ones (`whenFull`)."""

    @property
    def name(self) -> LogName:
        return self._name

    @property
    def incarnation(self) -> str:
        return self._incarnation

    @property
    def partitions(self) -> int:
        return 1

    @property
    def max_event_bytes(self) -> int:
        return self._settings.max_event_bytes

    # --- writing --------------------------------------------------------------------------------------------------

    def append(self, events: Sequence[Event]) -> asyncio.Future[Sequence[Appended]]:
        # The caller may be cancelled and use its list again, while the request still stands.
        events = tuple(events)
        stored: Stored | None = None

        def run(tx: Transaction) -> Sequence[Appended]:
            nonlocal stored
            if not events:
                return ()
            stored = tx.append(self._name, events, size, drop_oldest=self.drops_oldest)
            return _places(events, stored)

        def publish(_: Sequence[Appended]) -> None:
            if stored is not None:
                self._publish(events, stored)

        try:
            size = checked_size(events, self.max_event_bytes)
            return self._writer.submit(run, publish, appends=True)
        except ChannelError as error:
            refused: asyncio.Future[Sequence[Appended]] = asyncio.get_running_loop().create_future()
            refused.set_exception(error)
            return refused

    async def append_settling(
        self, events: Sequence[Event], slot: int, claim: Claim, changes: Sequence[Change], causes: Sequence[str] = ()
    ) -> Sequence[Appended]:
        del causes  # One transaction has both or neither.
        events, changes = tuple(events), tuple(changes)
        size = checked_size(events, self.max_event_bytes)
        check_slot(slot, claim, changes)

        def run(tx: Transaction) -> Stored | None:
            check_claim(claim, tx.catalog.claim)
            stored = tx.append(self._name, events, size, reserve=True) if events else None
            apply(tx, changes)
            return stored

        def publish(stored: Stored | None) -> None:
            if stored is not None:
                self._publish(events, stored)

        stored = await self._writer.submit(run, publish, appends=bool(events))
        return _places(events, stored) if stored is not None else ()

    async def trim(self, partition: int, below: int) -> int:
        self._check(partition)
        # What is appended from now on stays, however large `below` is.
        below = min(below, self._next)
        removed = 0
        while True:
            # In steps, so that appends need not wait for the removal of a million records.
            step = await self._writer.submit(lambda tx: tx.trim(self._name, below), self._publish_trim)
            removed += step.removed
            if not step.removed:
                return removed

    def _publish(self, events: Sequence[Event], stored: Stored) -> None:
        self._ring.add(self._recent, stored.first, stored.time, events)
        self._first = max(self._first, stored.begin)
        self._next = stored.first + len(events)
        self._wake()

    def _publish_trim(self, trimmed: Trimmed) -> None:
        self._first = max(self._first, trimmed.first)

    def end(self, error: ChannelError) -> None:
        """The log was deleted or the backend closed: from now on everything raises such an error, and nobody waits."""
        self._ended = error
        self._wake()

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None

    # --- reading --------------------------------------------------------------------------------------------------

    async def read(self, partition: int, after: int, limit: int) -> Page:
        self._check(partition)
        if after + 1 < self._first:
            raise PositionExpired(self._first)
        if after + 1 >= self._next or limit < 1:
            return Page((), after)
        records = take(self._recent, after, limit, self._settings.page_bytes)
        if not records:
            records = await self._read_store(after, min(limit, self._next - 1 - after))
        return Page(records, records[-1].position)

    async def _read_store(self, after: int, limit: int) -> tuple[Record, ...]:
        def question(connection: sqlite3.Connection) -> list[Row]:
            rows = _up_to(
                connection.execute(_READ, (key_of(self._id, after + 1), self._end, limit)), self._settings.page_bytes
            )
            # There are no gaps: what is missing at the front was trimmed since this read began.
            if not rows:
                raise PositionExpired(_next(connection, self._id))
            if (first := position_of(rows[0])) != after + 1:
                raise PositionExpired(first)
            return rows

        # Made into records here: a thread that did it would take the interpreter lock from the loop again and again.
        return tuple(map(record_of, await self._reader.run(question)))

    async def wait(self, partition: int, after: int) -> None:
        self._check(partition)
        if after + 1 >= self._next:
            # No await between the look and the wait: `_publish` runs on this loop, so nothing is missed.
            if self._news is None:
                self._news = asyncio.Event()
            await self._news.wait()

    async def bounds(self, partition: int) -> Bounds:
        self._check(partition)
        return Bounds(self._first, self._next)

    async def position_at(self, partition: int, time: float) -> int:
        self._check(partition)
        first, end = self._first, self._next

        def question(connection: sqlite3.Connection) -> int:
            low, high = first, end
            while low < high:
                middle = (low + high) // 2
                row = connection.execute(_TIME, (key_of(self._id, middle), self._end)).fetchone()
                if row is None or row[0] >= time:
                    high = middle
                else:
                    low = middle + 1
            return low

        return await self._reader.run(question)

    async def stats(self) -> LogStats:
        self._check(0)

        def question(connection: sqlite3.Connection) -> LogStats:
            span = (key_of(self._id, 0), self._end)
            first = connection.execute(_FIRST, span).fetchone()
            full = fullness(self._reader.path, connection, self._settings)
            if first is None:
                return LogStats(0, 0, None, full)
            last = connection.execute(_LAST, span).fetchone()
            return LogStats(last[0] - first[0] + 1, last[1] - first[1] + first[2], first[3], full)

        return await self._reader.run(question)

    @property
    def _end(self) -> int:
        return key_of(self._id, POSITION_MASK)

    def _check(self, partition: int) -> None:
        if partition != 0:
            raise ValueError(f"a log on SQLite has partition 0 only, not {partition}")
        if self._ended is not None:
            # A new one each time: an exception that is raised in two tasks mixes up their tracebacks.
            raise type(self._ended)(*self._ended.args)


def _places(events: Sequence[Event], stored: Stored) -> Sequence[Appended]:
    return [Appended(0, position) for position in range(stored.first, stored.first + len(events))]


def _up_to(rows: Iterable[Row], size: int) -> list[Row]:
    """The first of `rows` up to `size` bytes of events, but one at least where there is one."""
    found: list[Row] = []
    for row in rows:
        size -= size_of(row)
        if size < 0 and found:
            break
        found.append(row)
    return found


def _next(connection: sqlite3.Connection, log: int) -> int:
    """Where a log without records goes on."""
    row = connection.execute("SELECT next FROM logs WHERE id = ? AND NOT deleted", (log,)).fetchone()
    if row is None:
        raise LogNotFound("the log was deleted")
    return int(row[0])


_READ: Final = f"SELECT {RECORD_COLUMNS} FROM events WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?"  # noqa: S608 - the columns are a constant
_TIME: Final = "SELECT time FROM events WHERE key BETWEEN ? AND ? ORDER BY key LIMIT 1"
_FIRST: Final = (
    "SELECT key, total, length(head) + length(data), time FROM events WHERE key BETWEEN ? AND ? ORDER BY key LIMIT 1"
)
_LAST: Final = "SELECT key, total FROM events WHERE key BETWEEN ? AND ? ORDER BY key DESC LIMIT 1"
