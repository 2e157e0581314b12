"""Several processes dispatch from one channel: one joins, is killed or stopped, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from channels.records import SLOTS, StartRecord
from eventing import http_binding
from tests.system.dispatch_child import BROKER, TRIGGER, dispatching
from tests.system.support import Reply, Request, sink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from channels.driver import Backend, Log
    from eventing.event import Event

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
PARTITIONS = 16
WINDOW = 100
KEYS = 40


def keyed(key: int, number: int) -> Event:
    headers = {"specversion": "1.0", "id": f"{key}-{number}", "source": "/s", "type": "t", "partitionkey": f"k{key}"}
    raw = [(f"ce-{name}".encode(), value.encode()) for name, value in headers.items()]
    return http_binding.admit(http_binding.parse(raw, b"x"), "2026-01-01T00:00:00Z")


class Publishing:
    """Appends events of many keys, in order, until it is told to end."""

    def __init__(self, log: Log) -> None:
        self.sent: set[str] = set()
        self.end = asyncio.Event()
        self._log = log

    async def run(self, key: int) -> None:
        number = 0
        while not self.end.is_set():
            await self._log.append([keyed(key, number)])
            self.sent.add(f"{key}-{number}")
            number += 1
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def another(channel: str, data_dir: Path, subscriber: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A second process; it is killed at the end, if not before."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, *("-m", "tests.system.dispatch_child", channel, str(data_dir), subscriber), cwd=ROOT
    )
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def slots_are(backend: Backend, *, fewer: bool) -> None:
    """Return once this process has fewer than all slots, or all of them again."""
    async with asyncio.timeout(30):
        while (len(await backend.state.claims()) < SLOTS) is not fewer:  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.05)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("end", ["killed", "stopped", "told to go"])
async def test_a_process_comes_and_goes(nats_url: str, tmp_path: Path, end: str) -> None:
    """A second process gets a share of the partitions, and when it goes, in whatever way, the first one has all again.

    Every event is delivered, and no more than each partition's window is repeated for each change of owner.
    """
    channel = f"{nats_url}/{secrets.token_hex(4)}"
    seen: Counter[str] = Counter()
    by_child: set[str] = set()

    def answer(request: Request) -> Reply:
        seen[request.id] += 1
        if request.path == "/child":
            by_child.add(request.id)
        return Reply()

    async with sink(answer) as subscriber, dispatching(channel, tmp_path / "a", f"{subscriber.url}/first") as backend:
        log = await backend.create(BROKER, {"stream.partitions": str(PARTITIONS)})
        await backend.state.put_start(
            StartRecord(TRIGGER, BROKER, log.incarnation, dict.fromkeys(range(PARTITIONS), 0))
        )
        publishing = Publishing(log)
        async with asyncio.TaskGroup() as group:
            for key in range(KEYS):
                group.create_task(publishing.run(key))
            async with another(channel, tmp_path / "b", f"{subscriber.url}/child") as child:
                await slots_are(backend, fewer=True)
                async with asyncio.timeout(30):
                    while len(by_child) < 200:  # noqa: ASYNC110 - the subscriber is called by another process
                        await asyncio.sleep(0.05)
                child.send_signal(
                    {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP, "told to go": signal.SIGINT}[end]
                )
                await slots_are(backend, fewer=False)
                if end == "stopped":
                    child.send_signal(signal.SIGCONT)
                    await slots_are(backend, fewer=True)
            await slots_are(backend, fewer=False)
            publishing.end.set()
        async with asyncio.timeout(30):
            while not publishing.sent <= seen.keys():  # noqa: ASYNC110 - the subscriber is called by a dispatcher
                await asyncio.sleep(0.05)
    repeated = sum(count - 1 for count in seen.values())
    assert repeated <= 4 * PARTITIONS * WINDOW
    assert len(by_child) >= 200
