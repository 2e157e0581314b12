"""The writer thread when its disk or one of its requests misbehaves."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from channels.channel import ChannelSettings
from channels.errors import AppendAmbiguous, ChannelFull, ChannelUnavailable, PositionExpired, StoreDamaged, StoreError
from channels.records import LogName
from channels.sqlite.catalog import Catalog
from channels.sqlite.guard import Files
from channels.sqlite.log import SqliteLog
from channels.sqlite.reader import Reader
from channels.sqlite.ring import Ring
from channels.sqlite.schema import prepare
from channels.sqlite.space import Space
from channels.sqlite.writer import Writer
from tests.contract.harness import event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from channels.sqlite.catalog import LogRow
    from channels.sqlite.transaction import Stored, Transaction

T = TypeVar("T")

LOG = LogName("shop", "default", "uid-1")


class FaultyConnection(sqlite3.Connection):
    """Fails the next statements that begin with `faulty`, with a result code of SQLite, `failures` times."""

    faulty = ""
    code = 0
    failures = 0

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if self.failures and sql.startswith(self.faulty):
            self.failures -= 1
            error = sqlite3.OperationalError("the disk misbehaves")
            error.sqlite_errorcode = self.code
            raise error
        return super().execute(sql, *parameters)


@dataclass
class Bench:
    """A writer on a connection that can be made to fail."""

    writer: Writer
    connection: FaultyConnection

    def fail(self, sql: str, code: int, failures: int = 1) -> None:
        self.connection.faulty, self.connection.code, self.connection.failures = sql, code, failures

    async def create(self) -> LogRow:
        return await self.writer.submit(lambda tx: tx.create_log(LOG))

    async def append(self, number: int) -> Stored:
        one = event(number)
        return await self.writer.submit(lambda tx: tx.append(LOG, [one], one.size), appends=True)

    def stored(self) -> int:
        (count,) = sqlite3.Connection.execute(self.connection, "SELECT count(*) FROM events").fetchone()
        return int(count)


@asynccontextmanager
async def _bench(path: Path) -> AsyncIterator[Bench]:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=FaultyConnection)
    settings = ChannelSettings()
    prepare(connection, path, settings.max_file_bytes)
    writer = Writer(path, connection, Catalog(connection), Space(path, connection, settings), Files(path))
    writer.start()
    try:
        yield Bench(writer, connection)
    finally:
        await writer.close()


@pytest.mark.parametrize(
    ("statement", "code", "error"),
    [
        ("COMMIT", sqlite3.SQLITE_IOERR, AppendAmbiguous),
        ("COMMIT", sqlite3.SQLITE_FULL, ChannelFull),
        ("BEGIN", sqlite3.SQLITE_BUSY, ChannelUnavailable),
        ("INSERT", sqlite3.SQLITE_IOERR, ChannelUnavailable),
        ("INSERT", sqlite3.SQLITE_FULL, ChannelFull),
        ("INSERT", sqlite3.SQLITE_CORRUPT, StoreDamaged),
        ("PRAGMA page_count", sqlite3.SQLITE_IOERR, ChannelUnavailable),
        ("BEGIN", sqlite3.SQLITE_READONLY, StoreError),
    ],
)
async def test_a_failing_statement(tmp_path: Path, statement: str, code: int, error: type[Exception]) -> None:
    """The caller gets the error that says what became of its events, and the next append is as if nothing had been."""
    async with _bench(tmp_path / "store.db") as bench:
        await bench.create()
        await bench.append(1)
        if statement.startswith("PRAGMA"):
            # The room is looked at again at once only after some was made.
            await bench.writer.submit(lambda tx: tx.trim(LOG, 2))
        bench.fail(statement, code)
        with pytest.raises(error) as failed:
            await bench.append(2)
        assert type(failed.value) is error
        assert isinstance(failed.value.__cause__, sqlite3.Error)
        assert (await bench.append(3))[0] == 2
        assert bench.stored() == (1 if statement.startswith("PRAGMA") else 2)


async def test_state_after_a_failing_commit(tmp_path: Path) -> None:
    """Changes of the state can be put again without harm, so a failing commit is no ambiguity for them."""
    async with _bench(tmp_path / "store.db") as bench:
        bench.fail("COMMIT", sqlite3.SQLITE_IOERR)
        with pytest.raises(ChannelUnavailable):
            await bench.create()
        assert (await bench.create()).first == 1


async def test_every_commit_reaches_the_disk(tmp_path: Path) -> None:
    """The connection that writes syncs at each commit, into a write-ahead log."""
    async with _bench(tmp_path / "store.db") as bench:

        def ask(tx: Transaction) -> list[object]:
            pragmas = ("synchronous", "journal_mode", "fullfsync", "checkpoint_fullfsync")
            return [tx.query(f"PRAGMA {pragma}")[0] for pragma in pragmas]

        asked = await bench.writer.submit(ask)
    full = 2
    assert asked == [full, "wal", 1, 1]


async def test_times_never_fall(tmp_path: Path) -> None:
    """When the clock is set back, records keep the latest time: times are looked up by bisection."""
    async with _bench(tmp_path / "store.db") as bench:
        await bench.create()
        time = (await bench.append(1)).time
        one = event(2)

        def append_earlier(tx: Transaction) -> Stored:
            tx.now -= 3600
            return tx.append(LOG, [one], one.size)

        assert await bench.writer.submit(append_earlier) == (2, time, 1)


class HeldReader(Reader):
    """Begins to answer once it is let go."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked = asyncio.Event()
        self.let_go = asyncio.Event()

    async def run(self, question: Callable[[sqlite3.Connection], T]) -> T:
        self.asked.set()
        await self.let_go.wait()
        return await super().run(question)


@pytest.mark.parametrize("below", [6, 11])
async def test_a_trim_that_overtakes_a_read(tmp_path: Path, below: int) -> None:
    """A read whose next record is trimmed while it is under way says so, and never skips it in silence."""
    path = tmp_path / "store.db"
    async with _bench(path) as bench:
        row = await bench.create()
        reader = HeldReader(path)
        with reader.opened():
            log = SqliteLog(LOG, row, bench.writer, reader, Ring(0), ChannelSettings())
            await log.append([event(number) for number in range(10)])
            read = asyncio.create_task(log.read(0, 2, 5))
            await reader.asked.wait()
            await log.trim(0, below)
            reader.let_go.set()
            with pytest.raises(PositionExpired) as expired:
                await read
        assert expired.value.first == below


async def _gather(bench: Bench, *requests: Callable[[Transaction], object]) -> list[object]:
    """Hand requests over together, behind one that holds the thread until all are there."""
    return await asyncio.gather(*(bench.writer.submit(request) for request in requests), return_exceptions=True)


def _faulty(tx: Transaction) -> None:
    tx.create_log(LOG._replace(name="half"))
    raise TypeError("a bug")


async def test_a_faulty_request_fails_alone(tmp_path: Path) -> None:
    """A bug in one request reaches its caller, undoes what it did, and spares the others of the batch."""
    async with _bench(tmp_path / "store.db") as bench:
        names = [LOG._replace(name=f"log-{number}") for number in range(3)]
        good = [lambda tx, name=name: tx.create_log(name).id for name in names]
        first, bug, second, third = await _gather(bench, good[0], _faulty, good[1], good[2])
        assert isinstance(bug, TypeError)
        assert len({first, second, third}) == 3
        await bench.create()
        (count,) = sqlite3.Connection.execute(bench.connection, "SELECT count(*) FROM logs").fetchone()
        assert count == 4


async def test_publish_comes_before_the_answer_and_in_order(tmp_path: Path) -> None:
    """What was written is published in the order of the commits, before its caller goes on, cancelled or not."""
    async with _bench(tmp_path / "store.db") as bench:
        await bench.create()
        published: list[int] = []

        async def append(number: int) -> None:
            one = event(number)
            first, *_ = await bench.writer.submit(
                lambda tx: tx.append(LOG, [one], one.size), lambda stored: published.append(stored[0])
            )
            assert first in published

        tasks = [asyncio.create_task(append(number)) for number in range(100)]
        await asyncio.sleep(0)
        tasks[50].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await bench.append(1)
        assert published == list(range(1, 101))
