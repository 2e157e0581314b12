"""Opens a store, and holds what its logs and its state share."""

from __future__ import annotations

import os
import sqlite3
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

from channels.channel import DROP_OLDEST, WHEN_FULL
from channels.errors import ChannelUnavailable, LogNotFound
from channels.lock import LOCK, locked
from channels.sqlite.catalog import Catalog
from channels.sqlite.guard import Files, channel_error, check_file
from channels.sqlite.log import SqliteLog
from channels.sqlite.reader import Reader
from channels.sqlite.ring import Ring
from channels.sqlite.schema import connect, prepare
from channels.sqlite.space import Space
from channels.sqlite.state import SqliteState
from channels.sqlite.writer import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from pathlib import Path

    from channels.channel import ChannelSettings
    from channels.records import LogName
    from channels.sqlite.catalog import LogRow

STORE: Final = "penstock.db"
"""The store's name in the data directory. SQLite keeps `-wal` and `-shm` beside it, and they belong to it."""


@asynccontextmanager
async def open_store(data_dir: Path, settings: ChannelSettings) -> AsyncIterator[SqliteBackend]:
    """The store in a directory, both made where they do not exist.

    Raises StoreLocked, StoreDamaged, StoreTooNew, or StoreError with what must be mended. Leaving it writes what waits.
    """
    path = data_dir / STORE
    async with AsyncExitStack() as stack:
        stack.enter_context(locked(data_dir / LOCK))
        # On the loop, though it may take a moment: a thread that outlived a cancellation would go on without the lock.
        connection, catalog = _open(path, settings)
        files = Files(path)
        reader = Reader(path)
        with _mapped(path):
            stack.enter_context(reader.opened())
        space = Space(path, connection, settings)
        writer = Writer(path, connection, catalog, space, files, settings.commit_interval)
        backend = SqliteBackend(writer, reader, catalog, settings)
        writer.start()
        stack.push_async_callback(writer.close)
        stack.callback(backend.end, ChannelUnavailable(f"{path} is closed"))
        yield backend


class SqliteBackend:
    """Implements `channels.driver.Backend`; made by `open_store`."""

    def __init__(self, writer: Writer, reader: Reader, catalog: Catalog, settings: ChannelSettings) -> None:
        self._writer = writer
        self._reader = reader
        self._settings = settings
        self._ring = Ring(settings.ring_bytes)
        self._state = SqliteState(catalog.claim, writer, reader, settings)
        self._logs: dict[LogName, SqliteLog] = {}
        for name, log in catalog.ids.items():
            self._add(name, catalog.row(log))

    @property
    def state(self) -> SqliteState:
        return self._state

    async def create(self, name: LogName, config: Mapping[str, str]) -> SqliteLog:
        if name not in self._logs:
            await self._writer.submit(lambda tx: tx.create_log(name), lambda row: self._add(name, row))
        log = await self.open(name)
        log.drops_oldest = config.get(WHEN_FULL) == DROP_OLDEST
        return log

    async def open(self, name: LogName) -> SqliteLog:
        try:
            return self._logs[name]
        except KeyError:
            raise _not_found(name) from None

    async def delete(self, name: LogName) -> None:
        await self._writer.submit(lambda tx: tx.delete_log(name), lambda _: self._remove(name))

    async def list(self) -> Sequence[LogName]:
        return tuple(self._logs)

    def end(self, error: ChannelUnavailable) -> None:
        """The store closes: nobody may wait for news any more."""
        for log in self._logs.values():
            log.end(error)

    def _add(self, name: LogName, row: LogRow) -> None:
        if name not in self._logs:
            self._logs[name] = SqliteLog(name, row, self._writer, self._reader, self._ring, self._settings)

    def _remove(self, name: LogName) -> None:
        log = self._logs.pop(name, None)
        if log is not None:
            log.end(_not_found(name))


def _not_found(name: LogName) -> LogNotFound:
    return LogNotFound(f"there is no log of the Broker {name.namespace}/{name.name} (uid {name.owner})")


def _open(path: Path, settings: ChannelSettings) -> tuple[sqlite3.Connection, Catalog]:
    check_file(path)
    with _mapped(path):
        connection = connect(path)
        try:
            prepare(connection, path, settings.max_file_bytes)
            # The claim: whoever still believes to own the store has a lower number. It also makes the log file exist.
            connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'claim'")
            _sync_directory(path.parent)
            return connection, Catalog(connection)
        except BaseException:
            connection.close()
            raise


@contextmanager
def _mapped(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise channel_error(error, path) from error


def _sync_directory(directory: Path) -> None:
    """A new file has a name that survives a power cut only once its directory is on the disk; SQLite leaves that out."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
