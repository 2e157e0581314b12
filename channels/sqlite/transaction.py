"""One transaction of the writer: what can be done to the logs in it. Changes of the state are in `changes`."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from channels.errors import ChannelFull, LogNotFound
from channels.records import DeliveryState
from channels.sqlite.catalog import Head, LogRow
from channels.sqlite.schema import POSITION_MASK, key_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from channels.records import LogName
    from channels.sqlite.catalog import Catalog
    from channels.sqlite.space import Space
    from eventing.event import Event

REMOVE_ROWS: Final = 1000
REMOVE_BYTES: Final = 16 << 20
"""How much one transaction removes at most: appends wait for it."""

DROP_PART: Final = 8
"""The part of its records that a log drops at once to make room for new ones: the eighth."""

_COLUMNS: Final = 6
_ROWS: Final = (64, 16, 4, 1)
"""So many rows go into one INSERT. A statement gives up the interpreter lock once and may wait long to get it back
from a busy event loop, so a few large ones are better than one for each row."""


class Stored(NamedTuple):
    """Some events were stored together at `time`, the first at position `first`; the log begins at `begin` now."""

    first: int
    time: float
    begin: int


class Trimmed(NamedTuple):
    """`removed` records went, the log begins at `first` now."""

    removed: int
    first: int


class Transaction:
    """Its methods raise ChannelError, ValueError or sqlite3.Error, and count in `changed` what they did before."""

    def __init__(self, connection: sqlite3.Connection, catalog: Catalog, space: Space) -> None:
        self.catalog = catalog
        self.changed = 0
        self.now = time.time()
        self._connection = connection
        self._space = space
        self._rows: list[Any] = []

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Change something."""
        self.changed += 1
        return self._connection.execute(sql, parameters)

    def execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Change something for each row."""
        self.changed += 1
        self._connection.executemany(sql, rows)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """The first row of an answer, None where there is none."""
        return self._connection.execute(sql, parameters).fetchone()

    def log_id(self, name: LogName) -> int:
        """The number of a log. Raises LogNotFound."""
        found = self.catalog.ids.get(name)
        if found is None:
            raise LogNotFound(f"there is no log of the Broker {name.namespace}/{name.name} ({name.owner})")
        return found

    def append(
        self, name: LogName, events: Sequence[Event], size: int, *, reserve: bool = False, drop_oldest: bool = False
    ) -> Stored:
        """Store events of `size` bytes at the end of a log.

        `reserve` allows the room that is kept for replies. Where there is none, `drop_oldest` makes room at the cost of
        this log's oldest records, else ChannelFull is raised.
        """
        log = self.log_id(name)
        head = self.catalog.heads[log]
        if not reserve:
            self._admit(name, size, drop_oldest=drop_oldest)
        self.changed += 1
        # A clock that is set back must not make times fall: a time is looked up by bisection.
        now = head.time = max(self.now, head.time)
        first = head.next
        for key, event in enumerate(events, key_of(log, first)):
            block, data = event.head, event.data
            head.total += len(block) + len(data)
            self._rows += (key, now, event.ttl, head.total, block, data)
        head.next += len(events)
        return Stored(first, now, head.first)

    def _admit(self, name: LogName, size: int, *, drop_oldest: bool) -> None:
        while True:
            try:
                self._space.admit(size)
            except ChannelFull:
                if not drop_oldest or not self._drop_oldest(name, size):
                    raise
                self._space.refresh()
            else:
                return

    def _drop_oldest(self, name: LogName, size: int) -> bool:
        """Remove some of the oldest records; False where even all of them would not make room for `size` bytes."""
        log = self.log_id(name)
        self.flush()
        head = self.catalog.heads[log]
        oldest = self.query(_OLDEST, (key_of(log, head.first), key_of(log, POSITION_MASK)))
        if oldest is None or head.total - oldest[0] + oldest[1] < self._space.lacks(size):
            return False
        some = max(1, min(REMOVE_ROWS, (head.next - head.first) // DROP_PART))
        return self.trim(name, head.first + some).removed > 0

    def flush(self) -> None:
        """Write the events. They wait for the end of the transaction, so that all requests share few statements."""
        values, self._rows = self._rows, []
        begin = 0
        for rows in _ROWS:
            width = rows * _COLUMNS
            while len(values) - begin >= width:
                self._connection.execute(_INSERTS[rows], values[begin : begin + width])
                begin += width

    def create_log(self, name: LogName) -> LogRow:
        """The log of that name, a new one where there is none."""
        log = self.catalog.ids.get(name)
        if log is None:
            incarnation = secrets.token_hex(8)
            cursor = self.execute(
                "INSERT INTO logs (namespace, name, owner, incarnation, next) VALUES (?, ?, ?, ?, 1)",
                (*name, incarnation),
            )
            if cursor.lastrowid is None:
                raise AssertionError("an INSERT gives a row id")
            log = cursor.lastrowid
            self.catalog.ids[name] = log
            self.catalog.incarnations[log] = incarnation
            self.catalog.heads[log] = Head(1, 1, 0, 0.0)
        return self.catalog.row(log)

    def delete_log(self, name: LogName) -> None:
        """Remove a log and its state, and make its parked deliveries dead. Its records go later, bit by bit."""
        log = self.catalog.ids.pop(name, None)
        if log is None:
            return
        del self.catalog.heads[log], self.catalog.incarnations[log]
        self.execute("UPDATE logs SET deleted = 1 WHERE id = ?", (log,))
        for table in ("starts", "tails", "members", "cursors"):
            self.execute(f"DELETE FROM {table} WHERE log = ?", (log,))  # noqa: S608 - the names stand above
        self.execute(
            "UPDATE deliveries SET state = ?, reason = ?, updated = ?"
            " WHERE namespace = ? AND state = ? AND broker = ? AND owner = ?",
            (
                DeliveryState.DEAD,
                "the Broker was deleted",
                self.now,
                name.namespace,
                DeliveryState.RETRYING,
                name.name,
                name.owner,
            ),
        )
        self.catalog.trash.append(log)

    def trim(self, name: LogName, below: int) -> Trimmed:
        """Remove records below a position: as many as one transaction should."""
        log = self.log_id(name)
        head = self.catalog.heads[log]
        self.flush()
        removed = self._remove(key_of(log, head.first), key_of(log, min(below, head.next)))
        if removed:
            # An empty log must still know where it goes on.
            self.execute("UPDATE logs SET next = ? WHERE id = ?", (head.next, log))
            # There are no gaps, so the number of records says where the rest begins.
            head.first += removed
        return Trimmed(removed, head.first)

    def purge(self, log: int) -> None:
        """Remove some records of a deleted log; the log itself when none are left."""
        if not self._remove(key_of(log, 0), key_of(log, POSITION_MASK)):
            self.execute("DELETE FROM logs WHERE id = ?", (log,))
            self.catalog.trash.remove(log)

    def _remove(self, first: int, end: int) -> int:
        """Remove the first records with keys from `first` to below `end`; return how many, 0 where there are none."""
        size = count = 0
        last = first
        for last, length in self._connection.execute(_SIZES, (first, end, REMOVE_ROWS)):  # noqa: B007 - used after the loop
            size += length
            count += 1
            if size >= REMOVE_BYTES:
                break
        if count:
            self.execute("DELETE FROM events WHERE key BETWEEN ? AND ?", (first, last))
            self._space.made()
        return count


_OLDEST: Final = "SELECT total, length(head) + length(data) FROM events WHERE key BETWEEN ? AND ? ORDER BY key LIMIT 1"
_SIZES: Final = "SELECT key, length(head) + length(data) FROM events WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"


def _insert(rows: int) -> str:
    row = f"({', '.join('?' * _COLUMNS)})"
    return f"INSERT INTO events (key, time, ttl, total, head, data) VALUES {', '.join([row] * rows)}"  # noqa: S608 - nothing but question marks


_INSERTS: Final = {rows: _insert(rows) for rows in _ROWS}
