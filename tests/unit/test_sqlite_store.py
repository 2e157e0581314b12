"""The SQLite store: who may open it, what it says when it cannot be used, and what it does when its disk misbehaves."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import sqlite3
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from channels.channel import MIB, ChannelSettings
from channels.errors import (
    ChannelFull,
    ChannelUnavailable,
    PositionExpired,
    StoreDamaged,
    StoreError,
    StoreLocked,
    StoreTooNew,
)
from channels.records import Mark, MoveTail
from channels.registry import open_backend
from tests.contract.harness import BROKER, OTHER, SLOT, a_tail, claim_of, event, events, fill, put, read_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from channels.driver import Backend, Log


def _open(data_dir: Path, settings: ChannelSettings | None = None) -> AbstractAsyncContextManager[Backend]:
    return open_backend("sqlite:", data_dir, settings or ChannelSettings())


async def _make(data_dir: Path, count: int = 3) -> Path:
    """A closed store with some events; the path of its file."""
    async with _open(data_dir) as backend:
        await fill(await backend.create(BROKER, {}), count)
    return data_dir / "penstock.db"


# --- who may open it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("kafka://localhost:9092", "no kafka channel yet"),
        ("redis://localhost", "known are sqlite:"),
        ("", "known are sqlite:"),
        ("sqlite:/some/where", "--data"),
    ],
)
def test_a_url_that_names_no_backend(tmp_path: Path, url: str, says: str) -> None:
    """A channel URL that cannot be used says what can."""
    with pytest.raises(StoreError, match=says):
        open_backend(url, tmp_path, ChannelSettings())


async def test_a_second_process_is_told_who_holds_it(tmp_path: Path) -> None:
    """Opening a store that is open fails with its holder, and disturbs the holder in nothing."""
    async with _open(tmp_path) as backend:
        with pytest.raises(StoreLocked, match=f"process {os.getpid()} on ") as locked:
            async with _open(tmp_path):
                pass
        assert locked.value.path == str(tmp_path)
        assert "since 20" in locked.value.holder
        await fill(await backend.create(BROKER, {}), 1)
    async with _open(tmp_path):
        pass


async def test_a_failed_opening_frees_the_lock(tmp_path: Path) -> None:
    """After an opening that failed, the store can be mended and opened."""
    path = await _make(tmp_path)
    kept = path.read_bytes()
    path.write_bytes(b"no database")
    with pytest.raises(StoreDamaged):
        async with _open(tmp_path):
            pass
    path.write_bytes(kept)
    async with _open(tmp_path) as backend:
        assert len(await read_all(await backend.open(BROKER), 0)) == 3


# --- files that cannot be used -------------------------------------------------------------------------------------


def _overwrite(path: Path) -> None:
    path.write_bytes(b"this is no database, it is a letter" * 100)


def _cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def _cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def _scribble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = b"\x5a" * (len(content) - 4096)
    path.write_bytes(content)


def _make_foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE customers (id INTEGER)")
    connection.close()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_overwrite, "does not begin as a SQLite file"),
        (_cut, "it should have"),
        (_cut_in_the_header, "does not begin as a SQLite file"),
        (_scribble, "malformed"),
        (_make_foreign, "no store of Penstock"),
    ],
)
async def test_a_damaged_store(tmp_path: Path, damage: Callable[[Path], None], says: str) -> None:
    """A file that is damaged or not ours is refused with what to do, and left as it is."""
    path = await _make(tmp_path, 100)
    damage(path)
    before = path.read_bytes()
    with pytest.raises(StoreDamaged, match=says) as refused:
        async with _open(tmp_path):
            pass
    assert str(path) in str(refused.value)
    assert "move it" in str(refused.value)
    assert path.read_bytes() == before


async def test_a_newer_store(tmp_path: Path) -> None:
    """A store of a newer format is refused, not guessed at."""
    path = await _make(tmp_path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(StoreTooNew, match="format 2, this Penstock knows 1"):
        async with _open(tmp_path):
            pass


async def test_an_empty_file_is_a_new_store(tmp_path: Path) -> None:
    """A file without a byte, as a crash at the first start may leave it, is used."""
    (tmp_path / "penstock.db").touch()
    async with _open(tmp_path) as backend:
        assert await backend.list() == ()


async def test_damage_that_is_found_later(tmp_path: Path) -> None:
    """Damage in the middle of the records shows when they are read, as that and not as a bug."""
    path = await _make(tmp_path, 2000)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\x5a" * 4096)
    async with _open(tmp_path) as backend:
        with pytest.raises(StoreDamaged, match="Restore it from a backup"):
            await read_all(await backend.open(BROKER), 0)


# --- directories that cannot be used -------------------------------------------------------------------------------


async def test_a_data_directory_that_is_a_file(tmp_path: Path) -> None:
    """A data directory that cannot be one says so."""
    (tmp_path / "data").touch()
    with pytest.raises(StoreError, match="choose another with --data"):
        async with _open(tmp_path / "data"):
            pass


@contextmanager
def _mounted(at: Path, *options: str) -> Iterator[None]:
    """A file system of its own at a directory; skips where that takes rights that we lack."""
    at.mkdir(exist_ok=True)
    if shutil.which("mount") is None or _run("mount", *options, str(at)):
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        _run("umount", str(at))


def _run(*command: str) -> int:
    return subprocess.run(command, check=False, capture_output=True).returncode


async def test_a_read_only_directory(tmp_path: Path) -> None:
    """A store on a read-only file system is refused with the fix. (Permissions would not stop root.)"""
    data = tmp_path / "data"
    with _mounted(data, "-t", "tmpfs", "-o", "size=4m", "tmpfs"):
        await _make(data)
        _run("mount", "-o", "remount,ro", str(data))
        with pytest.raises(StoreError, match="make it writable"):
            async with _open(data):
                pass


# --- files that go away --------------------------------------------------------------------------------------------


def _remove(path: Path) -> None:
    path.unlink()


def _remove_wal(path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()


def _replace(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    copy.rename(path)


@pytest.mark.parametrize("tamper", [_remove, _remove_wal, _replace])
async def test_a_file_that_goes_away(tmp_path: Path, tamper: Callable[[Path], None]) -> None:
    """When somebody removes or replaces the files, nothing more is acknowledged: it would be lost."""
    async with _open(tmp_path) as backend:
        log = await backend.create(BROKER, {})
        await fill(log, 3)
        tamper(tmp_path / "penstock.db")
        for _ in range(2):
            with pytest.raises(StoreError, match="removed or replaced"):
                await log.append(events(4))
        with pytest.raises(StoreError, match="removed or replaced"):
            await put(backend, a_tail("t1"))


# --- no room -------------------------------------------------------------------------------------------------------


async def _fill_up(log: Log, size: int, before: int = 0) -> ChannelUnavailable:
    """Append events of that size to those that are there until one is refused; how it was refused."""
    for number in itertools.count(before):
        try:
            await log.append([event(number, size=size)])
        except ChannelUnavailable as refused:
            assert (await log.stats()).records == number
            return refused
    raise AssertionError


async def test_a_full_log_that_drops_its_oldest_takes_everything(tmp_path: Path) -> None:
    """`whenFull: dropOldest`: nothing is refused, and a reader that is overtaken is told where the log begins now."""
    async with _open(tmp_path, ChannelSettings(max_file_bytes=4 * MIB)) as backend:
        log = await backend.create(BROKER, {"whenFull": "dropOldest"})
        for number in range(500):
            await log.append([event(number, size=20_000)])
        bounds = await log.bounds(0)
        assert bounds.next == 501
        assert bounds.first > 300
        assert 0.5 < (await log.stats()).full <= 1.0
        with pytest.raises(PositionExpired) as expired:
            await log.read(0, 0, 1)
        page = await log.read(0, expired.value.first - 1, 1000)
        assert page.records[0].position == expired.value.first == bounds.first
    async with _open(tmp_path, ChannelSettings(max_file_bytes=4 * MIB)) as backend:
        log = await backend.open(BROKER)
        assert await log.bounds(0) == bounds
        # What a full log does is not stored with it: whoever opens it says so.
        assert isinstance(await _fill_up(log, 20_000, before=(await log.stats()).records), ChannelFull)


async def test_a_log_does_not_drop_its_events_for_room_that_others_take(tmp_path: Path) -> None:
    async with _open(tmp_path, ChannelSettings(max_file_bytes=4 * MIB)) as backend:
        log = await backend.create(BROKER, {"whenFull": "dropOldest"})
        await fill(log, 3)
        other = await backend.create(BROKER._replace(name="other"), {})
        await _fill_up(other, 20_000)
        with pytest.raises(ChannelFull):
            await log.append([event(4, size=20_000)])
        assert (await log.stats()).records == 3


async def test_the_reserve(tmp_path: Path) -> None:
    """At nine tenths of the limit new events are refused; replies and state are taken; after a trim all is well."""
    async with _open(tmp_path, ChannelSettings(max_file_bytes=4 * MIB)) as backend:
        log = await backend.create(BROKER, {})
        refused = await _fill_up(log, 20_000)
        assert isinstance(refused, ChannelFull)
        assert "raise max_file_bytes, shorten retention" in str(refused)
        stored = (await log.stats()).bytes
        assert 0.8 < stored / (0.9 * 4 * MIB) < 1.3
        await log.append_settling([event(1, size=20_000)], SLOT, await claim_of(backend), [a_tail("t1")])
        await put(backend, MoveTail(BROKER, 0, Mark(3)))
        await log.trim(0, (await log.bounds(0)).next // 2)
        await log.append([event(1, size=20_000)])


async def test_a_full_file(tmp_path: Path) -> None:
    """Past the limit nothing is taken at all; what is refused leaves no trace, what is small enough still goes."""
    settings = ChannelSettings(max_file_bytes=2 * MIB, reserve_share=1.5)
    async with _open(tmp_path, settings) as backend:
        log = await backend.create(BROKER, {})
        refused = await _fill_up(log, 30_000)
        assert isinstance(refused, ChannelFull)
        assert "raise max_file_bytes" in str(refused)
        stored = len(await read_all(log, 0))
        large, small = asyncio.ensure_future(log.append([event(1, size=30_000)])), asyncio.create_task(fill(log, 1))
        with pytest.raises(ChannelFull):
            await large
        await small
        assert (await log.stats()).records == stored + 1
        assert await log.trim(0, stored) == stored - 1
        await log.append([event(number, size=30_000) for number in range(stored // 2)])


async def test_a_full_disk(tmp_path: Path) -> None:
    """When the disk itself is full the append is refused, and goes on once there is room."""
    data = tmp_path / "data"
    with _mounted(data, "-t", "tmpfs", "-o", "size=2m", "tmpfs"):
        async with _open(data, ChannelSettings(max_disk_share=100.0)) as backend:
            log = await backend.create(BROKER, {})
            ballast = data / "ballast"
            ballast.write_bytes(bytes(MIB))
            await _fill_up(log, 30_000)
            stored = len(await read_all(log, 0))
            ballast.unlink()
            await log.append(events(1))
            assert (await log.stats()).records == stored + 1
        async with _open(data) as backend:
            assert (await (await backend.open(BROKER)).stats()).records == stored + 1


async def test_the_share_of_the_disk(tmp_path: Path) -> None:
    """A store that has its share of the disk refuses events and says that it is the disk."""
    async with _open(tmp_path, ChannelSettings(max_disk_share=1e-9)) as backend:
        log = await backend.create(BROKER, {})
        with pytest.raises(ChannelFull, match="make room on the disk"):
            await log.append(events(1))


# --- others that use the file --------------------------------------------------------------------------------------


async def test_a_foreign_lock_is_waited_for(tmp_path: Path) -> None:
    """An append waits for a shell that has the file locked, and is stored when it lets go."""
    async with _open(tmp_path) as backend:
        log = await backend.create(BROKER, {})
        shell = sqlite3.connect(tmp_path / "penstock.db", isolation_level=None)
        shell.execute("BEGIN IMMEDIATE")
        append = asyncio.ensure_future(log.append(events(1)))
        await asyncio.sleep(0)
        assert not append.done()
        shell.execute("COMMIT")
        shell.close()
        await append


async def test_a_shell_can_read_along(tmp_path: Path) -> None:
    """The view for people shows the records while the store is in use."""
    async with _open(tmp_path) as backend:
        await fill(await backend.create(BROKER, {}), 2)
        await fill(await backend.create(OTHER, {}), 1)
        shell = sqlite3.connect(tmp_path / "penstock.db")
        rows = shell.execute("SELECT namespace, broker, position, head FROM records").fetchall()
        shell.close()
    assert [row[:3] for row in rows] == [("shop", "default", 1), ("shop", "default", 2), ("shop", "other", 1)]
    assert "ce-id: 0" in rows[0][3]
