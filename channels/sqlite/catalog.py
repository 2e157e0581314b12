"""What the writer remembers of the store, so that it need not look before each write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from channels.records import LogName
from channels.sqlite.schema import POSITION_MASK, key_of

if TYPE_CHECKING:
    import sqlite3


@dataclass(slots=True)
class Head:
    """Where a log begins and goes on: `total` and `time` are those of its last record."""

    first: int
    next: int
    total: int
    time: float


class LogRow(NamedTuple):
    """A log as the store has it: its records stand at the positions from `first` to below `next`."""

    id: int
    incarnation: str
    first: int
    next: int


class Catalog:
    """The logs and the members of tails, as the last commit left them. Used by the writer's thread only.

    A transaction changes it as it goes; one that is rolled back must `load` it again.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.load()

    def load(self) -> None:
        """Read all from the store. Raises sqlite3.Error."""
        (self.claim,) = self._connection.execute("SELECT value FROM meta WHERE name = 'claim'").fetchone()
        rows = self._connection.execute(
            "SELECT id, namespace, name, owner, incarnation, next, deleted FROM logs"
        ).fetchall()
        self.ids: dict[LogName, int] = {LogName(*row[1:4]): row[0] for row in rows if not row[6]}
        self.incarnations: dict[int, str] = {row[0]: row[4] for row in rows if not row[6]}
        self.heads: dict[int, Head] = {row[0]: self._head(row[0], row[5]) for row in rows if not row[6]}
        self.trash: list[int] = [row[0] for row in rows if row[6]]
        self._members: dict[tuple[int, int], frozenset[str]] = {}

    def _head(self, log: int, floor: int) -> Head:
        """`floor` is where the log went on when it was last trimmed: positions below it are never used again."""
        span = (key_of(log, 0), key_of(log, POSITION_MASK))
        query = "SELECT key, total, time FROM events WHERE key BETWEEN ? AND ? ORDER BY key"
        first = self._connection.execute(f"{query} LIMIT 1", span).fetchone()
        last = self._connection.execute(f"{query} DESC LIMIT 1", span).fetchone()
        if first is None:
            return Head(floor, floor, 0, 0.0)
        return Head(first[0] & POSITION_MASK, (last[0] & POSITION_MASK) + 1, last[1], last[2])

    def row(self, log: int) -> LogRow:
        """What the loop needs to know of a log."""
        head = self.heads[log]
        return LogRow(log, self.incarnations[log], head.first, head.next)

    def members(self, log: int, partition: int) -> frozenset[str]:
        """The members of a tail."""
        known = self._members.get((log, partition))
        if known is None:
            rows = self._connection.execute(
                "SELECT trigger FROM members WHERE log = ? AND partition = ?", (log, partition)
            )
            known = self._members[log, partition] = frozenset(trigger for (trigger,) in rows)
        return known

    def set_members(self, log: int, partition: int, members: frozenset[str]) -> None:
        """Take note of what was written."""
        self._members[log, partition] = members
