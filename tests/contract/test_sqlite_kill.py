"""A real process is killed while it writes: nothing that it acknowledged is lost, and nothing is half there."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from channels.channel import ChannelSettings
from channels.registry import open_backend
from tests.contract.harness import BROKER, SLOT, event, read_all

ROOT = Path(__file__).parents[2]


class Acknowledged(NamedTuple):
    """One line that the child printed."""

    number: int
    position: int
    writer: int


@pytest.mark.parametrize("lines", [1, 50, 1000])
async def test_what_was_acknowledged_outlives_a_kill(tmp_path: Path, lines: int) -> None:
    """Killed twice in a row, the store has every acknowledged event at its position, and each reply with its cursor."""
    told: list[Acknowledged] = []
    for _ in range(2):
        told = await _write_until_killed(tmp_path, lines)
    async with open_backend("sqlite:", tmp_path, ChannelSettings()) as backend:
        log = await backend.open(BROKER)
        records = {record.position: record for record in await read_all(log, 0)}
        cursors = {cursor.trigger: cursor for cursor in (await backend.state.load(SLOT)).cursors}
    for number, position, _ in told:
        assert records[position].event == event(number)
    stored = {record.event.id for record in records.values()}
    newest = {writer: number for number, _, writer in told if number % 2}
    for writer, number in newest.items():
        (pending,) = cursors[f"writer-{writer}"].pending
        # The writer may have stored one more whose acknowledgement nobody read: then both are there.
        assert pending >= number
        assert str(pending) in stored
    assert list(records) == list(range(1, len(records) + 1))


async def _write_until_killed(data_dir: Path, lines: int) -> list[Acknowledged]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.contract.kill_child", str(data_dir), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert child.stdout is not None
    output = b""
    while output.count(b"\n") < lines and (chunk := await child.stdout.read(4096)):
        output += chunk
    child.kill()
    output += await child.stdout.read()
    assert await child.wait() == -9
    # The last line may have been cut by the kill.
    whole = output.decode().split("\n")[:-1]
    return [Acknowledged(*(int(word) for word in line.split())) for line in whole]
