"""The store of the embedded Kubernetes API: transactions, revisions, the log, restarts."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from controller.embedded.store import Key, RevisionExpired, Store, StoreFailed, open_store

if TYPE_CHECKING:
    from pathlib import Path

    from controller.embedded.store import Transaction

BEAR = Key("toys", "home", "bear")
FOX = Key("toys", "home", "fox")


async def put(store: Store, key: Key, **spec: int) -> str:
    value = {"metadata": {"name": key.name}, "spec": spec}
    written = await store.write(lambda transaction: transaction.put(key, value))
    version: str = written["metadata"]["resourceVersion"]
    return version


async def remove(store: Store, key: Key) -> None:
    await store.write(lambda transaction: transaction.delete(key, transaction.get(key) or {}))


async def test_revisions_rise_and_survive(tmp_path: Path) -> None:
    """Each change has the next revision, over all resources and over restarts."""
    async with open_store(tmp_path / "api.db") as store:
        assert store.revision == 0
        assert await put(store, BEAR, size=1) == "1"
        assert await put(store, Key("boxes", "", "crate")) == "2"
        await remove(store, BEAR)
    async with open_store(tmp_path / "api.db") as store:
        assert store.revision == 3
        assert store.get(BEAR) is None
        assert [entry.key.name for entry in store.list("boxes")] == ["crate"]
        assert await put(store, BEAR) == "4"


async def test_a_write_that_raises_changes_nothing(tmp_path: Path) -> None:
    """All of a transaction or none of it."""

    def decide(transaction: Transaction) -> None:
        transaction.put(BEAR, {"metadata": {}})
        raise KeyError("no")

    async with open_store(tmp_path / "api.db") as store:
        with pytest.raises(KeyError, match="no"):
            await store.write(decide)
        assert (store.revision, store.get(BEAR)) == (0, None)
        assert await put(store, FOX) == "1"


async def test_a_transaction_sees_its_own_changes(tmp_path: Path) -> None:
    """Get, list and dependents show what was put and deleted before; a preview leaves no trace."""

    def decide(transaction: Transaction) -> list[str]:
        transaction.put(FOX, {"metadata": {"ownerReferences": [{"uid": "u1"}]}})
        transaction.delete(BEAR, {"metadata": {}})
        assert transaction.get(BEAR) is None
        assert [key.name for key, _ in transaction.dependents("u1")] == ["fox"]
        assert transaction.dependents("u") == []
        return [key.name for key, _ in transaction.list("toys", "home")]

    async with open_store(tmp_path / "api.db") as store:
        await put(store, BEAR)
        assert store.preview(decide) == ["fox"]
        assert [entry.key.name for entry in store.list("toys")] == ["bear"]
        assert await store.write(decide) == ["fox"]


async def test_writes_are_decided_one_after_the_other(tmp_path: Path) -> None:
    """Read, add one, write: none of fifty at once is lost."""

    def add_one(transaction: Transaction) -> None:
        value = transaction.get(BEAR) or {"metadata": {}, "count": 0}
        transaction.put(BEAR, value | {"count": value["count"] + 1})

    async with open_store(tmp_path / "api.db") as store:
        await asyncio.gather(*(store.write(add_one) for _ in range(50)))
        entry = store.get(BEAR)
        assert entry is not None
        assert entry.decode()["count"] == 50


async def test_a_cancelled_caller_does_not_tear_the_state(tmp_path: Path) -> None:
    """Memory and file agree, whether or not the write was done."""
    async with open_store(tmp_path / "api.db") as store:
        writes = [asyncio.ensure_future(put(store, Key("toys", "", str(number)))) for number in range(10)]
        await asyncio.sleep(0)
        for write in writes[::2]:
            write.cancel()
        await asyncio.gather(*writes, return_exceptions=True)
        await put(store, BEAR)
        names, revision = [entry.key.name for entry in store.list("toys")], store.revision
    async with open_store(tmp_path / "api.db") as store:
        assert [entry.key.name for entry in store.list("toys")] == names
        assert store.revision == revision


@pytest.mark.parametrize("reopened", [False, True], ids=["from-memory", "from-the-file"])
async def test_the_log_gives_what_came_after(tmp_path: Path, reopened: bool) -> None:
    """Records of one resource after a revision, each once, with the state before it."""
    path = tmp_path / "api.db"
    async with open_store(path) as store:
        await put(store, BEAR, size=1)
        await put(store, Key("boxes", "", "crate"))
        await put(store, BEAR, size=2)
        await remove(store, BEAR)
        if not reopened:
            await check_log(store)
    if reopened:
        async with open_store(path) as store:
            await check_log(store)


async def check_log(store: Store) -> None:
    records, position = await store.read("toys", 1)
    assert position == 4
    assert [(record.revision, record.type) for record in records] == [(3, "MODIFIED"), (4, "DELETED")]
    assert records[0].previous is not None
    assert b'"size":1' in records[0].previous
    assert b'"size":2' in records[1].body
    assert await store.read("toys", position) == ((), 4)


async def test_a_long_log_is_read_in_parts(tmp_path: Path) -> None:
    """A reader that goes on from the position it was given sees every record once, however far behind it is."""
    async with open_store(tmp_path / "api.db") as store:
        await store.write(lambda transaction: [transaction.put(BEAR, {"metadata": {}}) for _ in range(450)])
    async with open_store(tmp_path / "api.db") as store:
        seen, position = [], 0
        while position < store.revision:
            records, position = await store.read("toys", position)
            seen += [record.revision for record in records]
        assert seen == list(range(1, 451))


async def test_old_revisions_are_compacted(tmp_path: Path) -> None:
    """The log is bounded; a read from before it says so, after a restart too."""
    async with open_store(tmp_path / "api.db", keep=10) as store:
        for number in range(30):
            await put(store, BEAR, size=number)
        with pytest.raises(RevisionExpired):
            await store.read("toys", 5)
        records, _ = await store.read("toys", 20)
        assert len(records) == 10
    async with open_store(tmp_path / "api.db", keep=10) as store:
        with pytest.raises(RevisionExpired) as raised:
            await store.read("toys", 5)
        assert 15 < raised.value.oldest <= 20
    with sqlite3.connect(tmp_path / "api.db") as file:
        assert file.execute("SELECT count(*) FROM log").fetchone()[0] <= 11
    file.close()


async def test_waiting_ends_with_a_write_or_the_end_of_the_store(tmp_path: Path) -> None:
    """A reader wakes for the next revision and for the close."""
    async with open_store(tmp_path / "api.db") as store:
        waiting = asyncio.ensure_future(store.moved(0))
        await put(store, BEAR)
        await waiting
        last = asyncio.ensure_future(store.moved(1))
        await asyncio.sleep(0)
        assert not last.done()
    await last
    with pytest.raises(StoreFailed, match="closed"):
        await put(store, BEAR)


async def test_a_second_writer_is_noticed(tmp_path: Path) -> None:
    """Two processes that use one file: the slower one fails, and nothing of the other's is overwritten."""
    async with open_store(tmp_path / "api.db") as first, open_store(tmp_path / "api.db") as second:
        await put(first, BEAR)
        with pytest.raises(StoreFailed, match="written by another process"):
            await put(second, FOX)
        assert second.get(FOX) is None
        await put(first, BEAR, size=1)
        assert first.revision == 2


async def test_the_file_can_be_copied_while_in_use(tmp_path: Path) -> None:
    """A backup taken by another connection opens as a store with the same content."""
    async with open_store(tmp_path / "api.db") as store:
        await put(store, BEAR)
        with closing(sqlite3.connect(tmp_path / "api.db")) as file, closing(sqlite3.connect(tmp_path / "b.db")) as copy:
            file.backup(copy)
    async with open_store(tmp_path / "b.db") as copied:
        assert copied.get(BEAR) is not None
        assert copied.revision == 1


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("PRAGMA user_version = 99", "format 99"),
        ("PRAGMA application_id = 7", "is not a store of the embedded Kubernetes API"),
    ],
)
async def test_another_file_is_refused(tmp_path: Path, statement: str, message: str) -> None:
    """A newer format or a foreign database is named, and left as it is."""
    async with open_store(tmp_path / "api.db") as store:
        await put(store, BEAR)
    with sqlite3.connect(tmp_path / "api.db") as file:
        file.execute(statement)
    file.close()
    with pytest.raises(StoreFailed, match=message):
        async with open_store(tmp_path / "api.db"):
            pass


async def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    """The message names the file; a folder that is not there is no reason to make one."""
    (tmp_path / "api.db").write_text("not a database, however long one looks at it")
    with pytest.raises(StoreFailed, match=r"api\.db: file is not a database"):
        async with open_store(tmp_path / "api.db"):
            pass
    with pytest.raises(StoreFailed, match="cannot be opened"):
        async with open_store(tmp_path / "absent" / "api.db"):
            pass
