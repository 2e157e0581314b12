"""The SQLite file under the store. All of it runs in the store's one thread, and every call is one transaction."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

APPLICATION_ID = 0x50454E41
FORMAT = 1

_TABLES = """
CREATE TABLE objects (
    resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, revision INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (resource, namespace, name)
) WITHOUT ROWID;
CREATE TABLE log (
    revision INTEGER PRIMARY KEY, type TEXT NOT NULL, resource TEXT NOT NULL, namespace TEXT NOT NULL,
    name TEXT NOT NULL, body BLOB NOT NULL, previous BLOB
);
CREATE TABLE compaction (revision INTEGER NOT NULL);
INSERT INTO compaction VALUES (0);
"""


class StoreFailed(Exception):
    """The store's file cannot be opened, read or written; the message names the file and the reason."""


class Key(NamedTuple):
    """Where an object stands: `resource` is plural and group (`brokers.eventing.knative.dev`, `services`)."""

    resource: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Record:
    """One revision: ADDED, MODIFIED or DELETED. `body` is the object after it (when DELETED its last state)."""

    revision: int
    type: str
    key: Key
    body: bytes
    previous: bytes | None

    @property
    def size(self) -> int:
        return len(self.body) + len(self.previous or b"")


class Database:
    """The open file. `revision` is the last one written; the log reaches back to just after `compacted`."""

    def __init__(self, path: Path, keep: int) -> None:
        self._path = path
        self._keep = keep
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1)
        except sqlite3.Error as error:
            raise StoreFailed(f"{path}: cannot be opened: {error}") from error
        try:
            self._prepare()
        except BaseException as error:
            self._connection.close()
            if isinstance(error, sqlite3.Error):
                raise StoreFailed(f"{path}: {_explain(error)}") from error
            raise

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA fullfsync = ON")
        with self._transaction():
            if self._integer("PRAGMA user_version") == 0 and not self._integer("SELECT count(*) FROM sqlite_schema"):
                for statement in _TABLES.split(";"):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self._connection.execute(f"PRAGMA user_version = {FORMAT}")
        if self._integer("PRAGMA application_id") != APPLICATION_ID:
            raise StoreFailed(f"{self._path}: is not a store of the embedded Kubernetes API")
        if (found := self._integer("PRAGMA user_version")) != FORMAT:
            raise StoreFailed(f"{self._path}: has format {found}, this version of Penstock reads format {FORMAT}")
        self.compacted = self._integer("SELECT revision FROM compaction")
        self.revision = max(self.compacted, self._integer("SELECT coalesce(max(revision), 0) FROM log"))

    def objects(self) -> Iterator[tuple[Key, int, bytes]]:
        with closing(self._connection.execute("SELECT resource, namespace, name, revision, body FROM objects")) as rows:
            for resource, namespace, name, revision, body in rows:
                yield Key(resource, namespace, name), revision, body

    def read(self, resource: str, after: int, upto: int, limit: int) -> Sequence[Record]:
        """Records of one resource with `after < revision <= upto`, in order, at most `limit`."""
        found = self._connection.execute(
            "SELECT revision, type, namespace, name, body, previous FROM log"
            " WHERE revision > ? AND revision <= ? AND resource = ? ORDER BY revision LIMIT ?",
            (after, upto, resource, limit),
        )
        with closing(found) as rows:
            return [
                Record(revision, type_, Key(resource, namespace, name), body, previous)
                for revision, type_, namespace, name, body, previous in rows
            ]

    def commit(self, records: Sequence[Record]) -> None:
        """Make records durable. Raises StoreFailed and changes nothing if the file cannot be written."""
        compacted = self._compaction(records[-1].revision)
        try:
            with self._transaction():
                for record in records:
                    self._write(record)
                if compacted > self.compacted:
                    self._connection.execute("DELETE FROM log WHERE revision <= ?", (compacted,))
                    self._connection.execute("UPDATE compaction SET revision = ?", (compacted,))
        except sqlite3.Error as error:
            raise StoreFailed(f"{self._path}: {_explain(error)}") from error
        self.compacted = compacted
        self.revision = records[-1].revision

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _write(self, record: Record) -> None:
        key = record.key
        self._connection.execute(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?)",
            (record.revision, record.type, *key, record.body, record.previous),
        )
        if record.type == "DELETED":
            self._connection.execute("DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?", key)
        else:
            self._connection.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", (*key, record.revision, record.body)
            )

    def _compaction(self, revision: int) -> int:
        """Up to where the log is dropped. In steps of a tenth, so that most commits delete nothing."""
        due = revision - self._keep
        return due if due - self.compacted > self._keep // 10 else self.compacted

    def _integer(self, query: str) -> int:
        with closing(self._connection.execute(query)) as rows:
            return int(rows.fetchone()[0])


def _explain(error: sqlite3.Error) -> str:
    if isinstance(error, sqlite3.IntegrityError):
        # Revisions are counted in memory and unique in the log, so that a second writer cannot go unseen.
        return "was written by another process; only one may use it"
    return str(error)
