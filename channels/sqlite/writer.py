"""The writer thread: all that waits is written in one transaction, and its callers are woken with one call.

A request that fails before it changed anything fails alone. One that fails later takes the transaction with it; then
each request gets a transaction of its own, so that the others do not suffer.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from channels.errors import AppendAmbiguous, ChannelError, ChannelUnavailable, StoreError
from channels.sqlite.guard import FilesGone, channel_error, code_of
from channels.sqlite.pace import ENOUGH, CommitPace
from channels.sqlite.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from channels.sqlite.catalog import Catalog
    from channels.sqlite.guard import Files
    from channels.sqlite.space import Space

T = TypeVar("T")

_MAX_BATCH: Final = 1024
"""At how many requests a transaction is written: it bounds how long the first of them waits."""


@dataclass(slots=True)
class _Work:
    """A request: `run` in the thread; once that is durable, `publish` on the loop, then the future.

    `result` or `error` are what came of it.
    """

    run: Callable[[Transaction], Any]
    publish: Callable[[Any], None] | None
    future: asyncio.Future[Any]
    appends: bool
    result: Any = None
    error: Exception | None = None


class _BatchFailed(Exception):
    """No request of the batch can fare better alone. The cause says why; `stored` that it may be there after a crash."""

    def __init__(self, *, stored: bool) -> None:
        super().__init__()
        self.stored = stored


class Writer:
    """Owns `connection`, from `start` until `close`. `interval` (s) is kept between commits that few requests share."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        catalog: Catalog,
        space: Space,
        files: Files,
        interval: float = 0.0,
    ) -> None:
        self._path = path
        self._connection = connection
        self._catalog = catalog
        self._space = space
        self._files = files
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[list[_Work] | None] = queue.SimpleQueue()
        self._waiting: list[_Work] = []
        self._pace = CommitPace(interval)
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._gone = False
        self._stale = False
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="penstock-writer", daemon=True)

    # --- on the loop ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def submit(
        self,
        run: Callable[[Transaction], T],
        publish: Callable[[T], None] | None = None,
        *,
        appends: bool = False,
    ) -> asyncio.Future[T]:
        """Do `run` in a transaction; the future has what it returned once that is durable; before, `publish` is told.

        It raises what `run` raises, ChannelUnavailable when nothing was stored, and when it `appends` and the commit
        failed AppendAmbiguous. A caller that is cancelled does not take its request back. Raises ChannelUnavailable
        once the store is closed.
        """
        if self._closed:
            raise ChannelUnavailable(f"{self._path} is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append(_Work(run, publish, future, appends))
        if len(self._waiting) == 1:
            self._hand_over_soon()
        elif self._timer is not None:
            self._join()
        return future

    def _hand_over_soon(self) -> None:
        """Hand over what waits together, at the earliest when the loop has run everything that was ready.

        Each hand-over wakes the thread, which then fights the loop for the interpreter lock.
        """
        delay = self._pace.delay(self._loop.time())
        if delay:
            self._timer = self._loop.call_later(delay, self._hand_over)
        else:
            self._loop.call_soon(self._hand_over)

    def _join(self) -> None:
        self._pace.joined(self._loop.time())
        if self._timer is not None and len(self._waiting) == ENOUGH:
            self._timer.cancel()
            self._timer = self._loop.call_later(0.0, self._hand_over)

    def _hand_over(self) -> None:
        if self._waiting:
            self._pace.began(self._loop.time(), waited=self._timer is not None)
            self._timer = None
            self._queue.put(self._waiting)
            self._waiting = []

    async def close(self) -> None:
        """Write what waits, bring the write-ahead log into the file, and end the thread."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._hand_over()
        self._queue.put(None)
        try:
            await self._ended.wait()
        finally:
            # Cancelled or not: the lock on the store goes next, and nobody may write then.
            self._thread.join()

    def _settle(self, batch: list[_Work]) -> None:
        for work in batch:
            future = work.future
            if work.error is not None:
                if not future.done():
                    future.set_exception(work.error)
                continue
            if work.publish is not None:
                work.publish(work.result)
            if not future.done():
                future.set_result(work.result)

    # --- in the thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (batch := self._take()) is not None:
                if batch:
                    self._write(batch)
                    self._loop.call_soon_threadsafe(self._settle, batch)
                else:
                    self._purge()
            self._checkpoint()
        finally:
            self._connection.close()
            self._loop.call_soon_threadsafe(self._ended.set)

    def _take(self) -> list[_Work] | None:
        """All that waits; nothing where there is time to remove what was deleted; None at the end."""
        batch: list[_Work] = []
        try:
            work = self._queue.get(block=not self._catalog.trash)
            while work is not None:
                batch += work
                if len(batch) >= _MAX_BATCH:
                    return batch
                work = self._queue.get_nowait()
        except queue.Empty:
            return batch
        if not batch:
            return None
        # Nothing comes after the end, so it can be put back to be found when the batch is written.
        self._queue.put(None)
        return batch

    def _write(self, batch: list[_Work]) -> None:
        """Give each request its result or its error."""
        try:
            self._transact(lambda tx: _attempt_all(tx, batch))
        except _BatchFailed as failure:
            for work in batch:
                work.error = self._error(work, failure)
        except Exception as error:  # noqa: BLE001 - the thread's edge: a faulty request must not end it, its caller is told
            if len(batch) == 1:
                batch[0].error = self._mapped(error)
                return
            for work in batch:
                work.error = None
                self._write([work])

    def _transact(self, body: Callable[[Transaction], None]) -> None:
        tx = self._begin()
        try:
            body(tx)
            tx.flush()
            self._commit()
        except BaseException:
            self._stale = True
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _begin(self) -> Transaction:
        try:
            if self._gone:
                self._files.check()
            if self._stale:
                self._catalog.load()
                self._stale = False
            self._space.refresh()
            # This waits for a foreign lock, and once is long enough.
            self._connection.execute("BEGIN IMMEDIATE")
        except (sqlite3.Error, FilesGone) as error:
            raise _BatchFailed(stored=False) from error
        return Transaction(self._connection, self._catalog, self._space)

    def _commit(self) -> None:
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if code_of(error) == sqlite3.SQLITE_FULL:
                raise
            # The write-ahead log may have it: the next commit overwrites that, but a crash before would bring it back.
            raise _BatchFailed(stored=True) from error
        try:
            # After the commit: before it, the files could still go in between.
            self._files.check()
        except FilesGone as error:
            self._gone = True
            raise _BatchFailed(stored=False) from error

    def _purge(self) -> None:
        try:
            self._transact(lambda tx: tx.purge(tx.catalog.trash[0]))
        except (sqlite3.Error, ChannelError, _BatchFailed):
            # What is left of a deleted log harms nobody, and the next start tries again.
            self._catalog.trash.clear()

    def _checkpoint(self) -> None:
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            # The write-ahead log is as durable as the file: the next start reads it.
            return

    def _error(self, work: _Work, failure: _BatchFailed) -> Exception:
        """An error for each caller: one that is raised in two tasks mixes up their tracebacks."""
        cause = failure.__cause__
        error: ChannelError
        if failure.stored and work.appends:
            error = AppendAmbiguous(f"{self._path}: {cause}")
        elif isinstance(cause, sqlite3.Error):
            error = channel_error(cause, self._path)
        else:
            error = StoreError(str(cause))
        error.__cause__ = cause
        return error

    def _mapped(self, error: Exception) -> Exception:
        if not isinstance(error, sqlite3.Error):
            return error
        mapped = channel_error(error, self._path)
        mapped.__cause__ = error
        return mapped


def _attempt_all(tx: Transaction, batch: list[_Work]) -> None:
    for work in batch:
        before = tx.changed
        try:
            work.result = work.run(tx)
        except (ChannelError, ValueError) as error:
            if tx.changed != before:
                raise
            work.error = error
