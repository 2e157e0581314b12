"""Backups of a store that is in use."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from channels.channel import ChannelSettings
from channels.errors import StoreError
from channels.registry import open_backend
from channels.sqlite.backup import backup
from tests.contract.harness import BROKER, SLOT, a_tail, events, fill, ids, put, read_all

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_backup_of_a_store_in_use(tmp_path: Path) -> None:
    """A backup holds what was acknowledged before it, opens as a store, and takes appends."""
    (tmp_path / "copy").mkdir()
    target = tmp_path / "copy" / "penstock.db"
    async with open_backend("sqlite:", tmp_path, ChannelSettings()) as backend:
        log = await backend.create(BROKER, {})
        await fill(log, 50)
        await put(backend, a_tail("t1"))
        writing = asyncio.create_task(fill(log, 500))
        await asyncio.to_thread(backup, tmp_path, target)
        await writing
    assert [file.name for file in target.parent.iterdir()] == ["penstock.db"]
    async with open_backend("sqlite:", target.parent, ChannelSettings()) as backend:
        log = await backend.open(BROKER)
        numbers = ids(await read_all(log, 0))
        assert numbers[:50] == list(range(50))
        assert len(numbers) in (50, 550)
        assert (await backend.state.load(SLOT)).tails == (a_tail("t1"),)
        await log.append(events(1))


async def test_a_backup_of_a_store_that_nobody_uses(tmp_path: Path) -> None:
    """A store can be copied while Penstock is stopped."""
    async with open_backend("sqlite:", tmp_path, ChannelSettings()) as backend:
        await fill(await backend.create(BROKER, {}), 3)
    (tmp_path / "copy").mkdir()
    backup(tmp_path, tmp_path / "copy" / "penstock.db")
    async with open_backend("sqlite:", tmp_path / "copy", ChannelSettings()) as backend:
        assert ids(await read_all(await backend.open(BROKER), 0)) == [0, 1, 2]


def _files(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*"))


@pytest.mark.parametrize(
    ("source", "target", "says"),
    [
        ("nowhere", "copy.db", "there is no store in"),
        ("data", "data/penstock.db", "exists already"),
        ("data", "missing/copy.db", "cannot write|unable to open"),
    ],
)
async def test_a_backup_that_cannot_be_made(tmp_path: Path, source: str, target: str, says: str) -> None:
    """A backup that cannot be made says why and leaves nothing behind."""
    async with open_backend("sqlite:", tmp_path / "data", ChannelSettings()):
        pass
    before = _files(tmp_path)
    with pytest.raises(StoreError, match=says):
        backup(tmp_path / source, tmp_path / target)
    assert _files(tmp_path) == before
