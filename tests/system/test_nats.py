"""`penstock serve` on NATS when NATS is killed, hangs or is not there."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.servers import Server, running
from tests.system.support import Penstock, Publisher, broker, event, eventually, free_port, sink, trigger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.system

CONNECTIONS = 16
LIMIT = 10.0
"""Seconds within which every request must have had an answer, whatever NATS does."""


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[Server]:
    """A server of one's own, to be killed."""
    with running("nats", tmp_path / "nats") as server:
        yield server


class Load:
    """Publishers that go on until `done`; what became of their events."""

    def __init__(self, one: Penstock) -> None:
        self.acknowledged: set[str] = set()
        self.refused = 0
        self.slowest = 0.0
        self.done = asyncio.Event()
        self._one = one

    async def run(self, name: int) -> None:
        publisher = Publisher(self._one.port)
        number = 0
        while not self.done.is_set():
            number += 1
            one = f"{name}-{number}"
            began = time.monotonic()
            status = await publisher.post("/default/default", event(one), b"x" * 100)
            self.slowest = max(self.slowest, time.monotonic() - began)
            if status == 202:
                self.acknowledged.add(one)
            else:
                assert status == 503
                self.refused += 1
                await asyncio.sleep(0.01)
        publisher.close()

    def more(self, count: int = 200) -> Callable[[], bool]:
        """Whether that many events more than now were acknowledged."""
        goal = len(self.acknowledged) + count
        return lambda: len(self.acknowledged) >= goal

    def refuses(self) -> Callable[[], bool]:
        """Whether events are refused from now on."""
        goal = self.refused + 1
        return lambda: self.refused >= goal


@pytest.mark.timeout(120)
@pytest.mark.parametrize("trouble", ["killed", "hangs"])
async def test_trouble_with_nats_loses_nothing(nats: Server, tmp_path: Path, trouble: str) -> None:
    """While NATS is away events are refused and nobody hangs; afterwards all goes on by itself, and nothing is missing."""
    one = Penstock(tmp_path / "data", "--channel", f"{nats.url}/away")
    try:
        await one.start()
        async with sink() as subscriber:
            one.apply(broker(), trigger("all", f"{subscriber.url}/all"))
            one.wait_ready("broker/default", "trigger/all")
            load = Load(one)
            async with asyncio.TaskGroup() as group:
                for name in range(CONNECTIONS):
                    group.create_task(load.run(name))
                for _ in range(2):
                    await eventually(load.more(), "events are taken")
                    nats.send(signal.SIGKILL if trouble == "killed" else signal.SIGSTOP)
                    await eventually(load.refuses(), "events are refused")
                    if trouble == "killed":
                        await asyncio.to_thread(nats.start)
                    else:
                        nats.send(signal.SIGCONT)
                await eventually(load.more(), "events are taken again")
                load.done.set()
            await eventually(lambda: load.acknowledged <= set(subscriber.ids()), "everything is delivered")
        assert load.slowest < LIMIT
        assert await one.stop() == 0
    finally:
        one.close()


@pytest.mark.timeout(180)
async def test_one_of_three_is_killed(tmp_path: Path) -> None:
    """With three replicas each server may be killed in its turn: events are taken again before it is back, and none is missing."""
    with running("nats3", tmp_path / "nats") as servers:
        one = Penstock(tmp_path / "data", "--channel", f"{servers.url}/three?replicas=3")
        try:
            await one.start()
            async with sink() as subscriber:
                one.apply(broker(), trigger("all", f"{subscriber.url}/all"))
                one.wait_ready("broker/default", "trigger/all")
                load = Load(one)
                async with asyncio.TaskGroup() as group:
                    for name in range(CONNECTIONS):
                        group.create_task(load.run(name))
                    for node in (1, 2, 3):
                        await eventually(load.more(), "events are taken")
                        servers.send(signal.SIGKILL, node)
                        await eventually(load.more(), "events are taken by the other two", 40)
                        await asyncio.to_thread(servers.start)
                    load.done.set()
                await eventually(lambda: load.acknowledged <= set(subscriber.ids()), "everything is delivered")
            assert load.slowest < LIMIT
            assert await one.stop() == 0
        finally:
            one.close()


async def test_a_refusal_says_when_to_come_again(nats: Server, tmp_path: Path) -> None:
    """Without NATS the answer is 503 with Retry-After, and says what is wrong."""
    one = Penstock(tmp_path / "data", "--channel", f"{nats.url}/away")
    try:
        await one.start()
        one.apply(broker())
        one.wait_ready("broker/default")
        nats.send(signal.SIGKILL)
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"{one.url}/default/default", headers=event("1"), timeout=LIMIT)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "NATS" in answer.json()["detail"] or "nats://" in answer.json()["detail"]
    finally:
        one.close()


async def test_serve_without_nats_says_so(tmp_path: Path) -> None:
    """Where no NATS server answers, serve ends with one line that names the URL."""
    one = Penstock(tmp_path / "data", "--channel", f"nats://127.0.0.1:{free_port()}")
    one.launch()
    await eventually(lambda: not one.alive, "serve has ended")
    last = one.log.read_text().strip().split("\n")[-1]
    assert "cannot connect to NATS" in last
    assert "nats://127.0.0.1" in last
