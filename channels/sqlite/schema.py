"""The tables of the store, and how a connection to it is made.

A record's `key` is its log's number and its position in one integer, so that one B-tree without any index holds the
records of all logs, each log in one piece. `total` is the number of bytes that the log had taken up to and including
the record: size and count of a log follow from its first and last record, and no counter is written beside them.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

from channels.errors import StoreDamaged, StoreTooNew

if TYPE_CHECKING:
    from pathlib import Path

APPLICATION_ID: Final = 0x504E5354
"""`PNST`: marks the file as ours (`PRAGMA application_id`, also shown by `file`)."""

FORMAT: Final = 1
"""The version of this schema (`PRAGMA user_version`). A store with a higher one is refused."""

PAGE_SIZE: Final = 4096

POSITION_BITS: Final = 40
"""2^40 positions for a log are 35 years of 1,000 events a second; 2^23 logs remain."""

POSITION_MASK: Final = (1 << POSITION_BITS) - 1

BUSY_SECONDS: Final = 5.0
"""How long to wait for another program that has the file locked, such as the sqlite3 shell."""

_TABLES: Final = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE logs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        namespace TEXT NOT NULL, name TEXT NOT NULL, owner TEXT NOT NULL,
        incarnation TEXT NOT NULL,
        next INTEGER NOT NULL,
        deleted INTEGER NOT NULL DEFAULT 0)""",
    "CREATE UNIQUE INDEX logs_by_name ON logs (namespace, name, owner) WHERE NOT deleted",
    """CREATE TABLE events (
        key INTEGER PRIMARY KEY,
        time REAL NOT NULL, ttl INTEGER NOT NULL, total INTEGER NOT NULL,
        head BLOB NOT NULL, data BLOB NOT NULL)""",
    """CREATE TABLE starts (
        log INTEGER NOT NULL, trigger TEXT NOT NULL,
        incarnation TEXT NOT NULL, positions BLOB NOT NULL,
        PRIMARY KEY (log, trigger)) WITHOUT ROWID""",
    """CREATE TABLE tails (
        log INTEGER NOT NULL, partition INTEGER NOT NULL,
        incarnation TEXT NOT NULL, position INTEGER NOT NULL, fingerprint INTEGER NOT NULL,
        PRIMARY KEY (log, partition)) WITHOUT ROWID""",
    """CREATE TABLE members (
        log INTEGER NOT NULL, partition INTEGER NOT NULL, trigger TEXT NOT NULL,
        PRIMARY KEY (log, partition, trigger)) WITHOUT ROWID""",
    """CREATE TABLE cursors (
        log INTEGER NOT NULL, trigger TEXT NOT NULL, partition INTEGER NOT NULL,
        incarnation TEXT NOT NULL, position INTEGER NOT NULL, fingerprint INTEGER NOT NULL, pending BLOB NOT NULL,
        PRIMARY KEY (log, trigger, partition)) WITHOUT ROWID""",
    # A delivery outlives its log, so it names it in full.
    """CREATE TABLE deliveries (
        id TEXT NOT NULL PRIMARY KEY,
        trigger TEXT NOT NULL, trigger_namespace TEXT NOT NULL, trigger_name TEXT NOT NULL,
        namespace TEXT NOT NULL, broker TEXT NOT NULL, owner TEXT NOT NULL,
        partition INTEGER NOT NULL, position INTEGER NOT NULL,
        state TEXT NOT NULL, due REAL NOT NULL, reason TEXT NOT NULL, updated REAL NOT NULL,
        ttl INTEGER NOT NULL, head BLOB NOT NULL, data BLOB NOT NULL, details BLOB NOT NULL)""",
    "CREATE INDEX deliveries_parked ON deliveries (trigger, partition, due) WHERE state = 'retrying'",
    "CREATE INDEX deliveries_listed ON deliveries (namespace, state, id)",
    # For people with a SQLite shell; nothing here reads it.
    f"""CREATE VIEW records AS SELECT
        l.namespace, l.name AS broker, e.key & {POSITION_MASK} AS position, datetime(e.time, 'unixepoch') AS stored,
        CAST(e.head AS TEXT) AS head, e.data
        FROM events e JOIN logs l ON l.id = e.key >> {POSITION_BITS}""",  # noqa: S608 - two constants
)


def key_of(log: int, position: int) -> int:
    """The key of a record; positions below 0 and above the largest are taken as these, so that ranges stay in the log."""
    return log << POSITION_BITS | min(max(position, 0), POSITION_MASK)


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection that begins and ends transactions only when told to. Raises sqlite3.Error."""
    mode = "ro" if read_only else "rwc"
    # Each connection is used by one thread at a time, but opened and closed by another.
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def prepare(connection: sqlite3.Connection, path: Path, max_bytes: int) -> None:
    """Make the file durable and ours: set what durability rests on, check the format, make the tables of a new one.

    Raises StoreDamaged, StoreTooNew, sqlite3.Error.
    """
    _check_format(connection, path)
    connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise sqlite3.OperationalError(f"the file system of {path} does not support write-ahead logging")
    connection.execute("PRAGMA synchronous = FULL")
    # macOS only: its fsync does not reach the disk, F_FULLFSYNC does. Elsewhere these change nothing.
    connection.execute("PRAGMA fullfsync = ON")
    connection.execute("PRAGMA checkpoint_fullfsync = ON")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.execute(f"PRAGMA max_page_count = {max(max_bytes // page_size, 1)}")
    if not _number(connection, "application_id"):
        _create(connection)


def _check_format(connection: sqlite3.Connection, path: Path) -> None:
    ours, version = _number(connection, "application_id"), _number(connection, "user_version")
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if ours == 0 and version == 0 and tables == 0:
        return
    if ours != APPLICATION_ID:
        raise StoreDamaged(f"{path} is a SQLite file, but no store of Penstock: move it away or choose another --data")
    if version > FORMAT:
        raise StoreTooNew(
            f"{path} has format {version}, this Penstock knows {FORMAT}: use the newer Penstock or another --data"
        )


def _create(connection: sqlite3.Connection) -> None:
    # One transaction, the marks included: a crash in it leaves a new file, not half a store.
    connection.execute("BEGIN IMMEDIATE")
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.execute("INSERT INTO meta VALUES ('claim', 0)")
    connection.execute("COMMIT")


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    (value,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(value)
