"""A backup of a data directory in use, and life on the copy."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.system.support import Penstock, Publisher, broker, event, eventually, sink, trigger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def run(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "broker", "backup", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.system
async def test_a_backup_under_load_is_served(penstock: Callable[..., Penstock], tmp_path: Path) -> None:
    """All that was acknowledged before the backup began is in it, and so are the Triggers and their places."""
    one = penstock()
    await one.start()
    acknowledged: list[str] = []
    ending = False

    async def publish() -> None:
        publisher = Publisher(one.port)
        while not ending:
            event_id = f"event-{len(acknowledged)}"
            assert await publisher.post("/default/default", event(event_id), b"x" * 1000) == 202
            acknowledged.append(event_id)
        publisher.close()

    async with sink() as subscriber:
        one.apply(broker(), trigger("old", f"{subscriber.url}/old"))
        one.wait_ready("trigger/old")
        publishing = asyncio.create_task(publish())
        await eventually(lambda: len(acknowledged) > 500, "events are acknowledged")
        before = len(acknowledged)
        done = await asyncio.to_thread(run, str(tmp_path / "copy"), "--data", str(one.data))
        assert done.returncode == 0, done.stderr
        assert "penstock.db" in done.stdout
        assert "kubernetes.db" in done.stdout
        await eventually(lambda: len(acknowledged) > before, "publishing went on")
        ending = True
        await publishing
        assert await one.stop() == 0

        copy = Penstock(tmp_path / "copy")
        try:
            await copy.start()
            early = {"penstock.dev/start": "earliest"}
            copy.apply(trigger("new", f"{subscriber.url}/new", annotations=early))
            copy.wait_ready("trigger/old", "trigger/new")
            wanted = set(acknowledged[:before])
            await eventually(lambda: wanted <= set(subscriber.ids("/new")), "the copy has all of them")
            assert await copy.stop() == 0
        finally:
            copy.close()


def test_what_cannot_be_backed_up_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "data").mkdir()
    full = run(str(tmp_path / "full"), "--data", str(tmp_path / "data"))
    assert (full.returncode, full.stdout) == (1, "")
    assert full.stderr == f"penstock: {tmp_path / 'full'} is no empty directory: name a new one\n"
    empty = run(str(tmp_path / "new"), "--data", str(tmp_path / "data"))
    assert empty.returncode == 1
    assert "there is no store in" in empty.stderr
    assert not (tmp_path / "new").exists()
