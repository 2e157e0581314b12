"""The reader thread: questions that memory cannot answer, each on one snapshot of the store."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from channels.errors import ChannelUnavailable
from channels.sqlite.guard import channel_error
from channels.sqlite.schema import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")


class Reader:
    """One thread with one read-only connection."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._executor = ThreadPoolExecutor(1, "penstock-reader")
        self._connection: sqlite3.Connection | None = None

    @property
    def path(self) -> Path:
        """Where the store lies."""
        return self._path

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Answer questions inside. Leaving waits for the one under way. Raises sqlite3.Error."""
        connection = self._connection = connect(self._path, read_only=True)
        try:
            yield
        finally:
            self._connection = None
            self._executor.shutdown()
            connection.close()

    async def run(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """The answer to `question`. Raises what it raises, and ChannelUnavailable or StoreDamaged for SQLite's errors."""
        if self._connection is None:
            raise ChannelUnavailable(f"{self._path} is closed")
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, _on_snapshot, self._connection, question)
        except sqlite3.Error as error:
            raise channel_error(error, self._path) from error


def _on_snapshot(connection: sqlite3.Connection, question: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN")
    try:
        return question(connection)
    finally:
        # Some errors end the transaction by themselves.
        if connection.in_transaction:
            connection.execute("COMMIT")
