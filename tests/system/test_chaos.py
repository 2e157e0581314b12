"""Several processes share a channel, and one of them, or the channel, dies, stops or comes back: nothing is lost.

Each run has 20,000 events from 32 publishers through three processes, to Triggers of eight Brokers: one that works and fails
now and then, one that replies, one that gets the replies, one with a dead letter sink. It prints its account.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.servers import Server, running
from tests.system.support import Penstock, Publisher, Reply, Request, broker, event, eventually, sink, trigger
from tests.system.wire import Wire, wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

EVENTS = 20_000
PUBLISHERS = 32
BROKERS = [f"b{number}" for number in range(8)]
WINDOW = 100
TRIGGERS = ("flaky", "replier", "replies", "failing")
PATIENCE = 120.0
ANSWER = 30.0
"""Seconds that a publisher waits for an answer, then it takes the event for not accepted."""

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]


@dataclass
class Account:
    """What was sent, and what became of it."""

    sent: int = 0
    refused: int = 0
    acknowledged: set[str] = field(default_factory=set)
    settled: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in TRIGGERS})
    failed_once: set[str] = field(default_factory=set)

    def answer(self, request: Request) -> Reply:
        """What the subscribers do. The id of a reply is that of its cause."""
        name = request.path.strip("/")
        if name == "failing":
            return Reply(500)
        if name == "flaky" and request.id.endswith("7") and request.id not in self.failed_once:
            self.failed_once.add(request.id)
            return Reply(503)
        self.settled["failing" if name == "dls" else name][request.id] += 1
        if name == "replier":
            headers = {**event(request.id, "test.reply"), "content-type": "text/plain"}
            return Reply(200, tuple(headers.items()), request.body)
        return Reply()

    def owed(self) -> dict[str, int]:
        """For each Trigger how many acknowledged events have come to no good end."""
        asks = {one for one in self.acknowledged if one.startswith("ask")}
        wanted = {
            "flaky": self.acknowledged,
            "replier": asks,
            "replies": asks,
            "failing": {one for one in self.acknowledged if one.startswith("fail")},
        }
        return {name: len(ids - self.settled[name].keys()) for name, ids in wanted.items()}

    def __str__(self) -> str:
        settled = self.settled.values()
        repeated = sum(count - 1 for ids in settled for count in ids.values())
        delivered = sum(len(ids) for ids in settled)
        return (
            f"sent {self.sent}, acknowledged {len(self.acknowledged)}, refused {self.refused}, delivered {delivered}, "
            f"repeated {repeated}, dead-lettered {len(self.settled['failing'])}, lost {sum(self.owed().values())}"
        )


@dataclass
class Scene:
    """The channel, the processes that share it, and the account."""

    server: Server
    processes: list[Penstock]
    account: Account
    wire: Wire
    """Between the third process and the channel."""


@contextlib.asynccontextmanager
async def playing(server: Server, folder: Path) -> AsyncIterator[Scene]:
    """Three processes on this channel; the first has the control plane, the others join it."""
    account = Account()
    made: list[Penstock] = []
    hosts = urlsplit(server.url).netloc
    host, _, port = hosts.split(",")[0].rpartition(":")
    replicas = f"/chaos?replicas={len(hosts.split(','))}"
    try:
        async with wire(host, int(port)) as cable, sink(account.answer) as subscriber:
            first = Penstock(folder / "p0", "--channel", f"nats://{hosts}{replicas}")
            made.append(first)
            await first.start()
            # A client of NATS goes on to other nodes that it hears of: through the wire it must know one only.
            for number, where in ((1, hosts), (2, cable.address if "," not in hosts else hosts)):
                joins = ("--channel", f"nats://{where}{replicas}", "--kubeconfig", str(first.kubeconfig))
                made.append(Penstock(folder / f"p{number}", *joins))
                await made[-1].start()
            # In threads: the wire is served by this loop, and what goes through it must become ready too.
            await asyncio.to_thread(first.apply, *_manifests(subscriber.url))
            ready = [f"broker/{each}" for each in BROKERS]
            ready += [f"trigger/{each}-{kind}" for each in BROKERS for kind in TRIGGERS]
            await asyncio.to_thread(first.wait_ready, *ready)
            yield Scene(server, made, account, cable)
    finally:
        for one in made:
            one.close()


def _manifests(url: str) -> list[dict[str, object]]:
    quick = {"retry": 3, "backoffPolicy": "linear", "backoffDelay": "PT0.05S"}
    found: list[dict[str, object]] = []
    for each in BROKERS:
        no_reply = [{"not": {"exact": {"type": "test.reply"}}}]
        found += [
            broker(each),
            trigger(f"{each}-flaky", f"{url}/flaky", broker=each, filters=no_reply, delivery=quick),
            trigger(f"{each}-replier", f"{url}/replier", broker=each, filters=[{"exact": {"type": "test.ask"}}]),
            trigger(f"{each}-replies", f"{url}/replies", broker=each, filters=[{"exact": {"type": "test.reply"}}]),
            trigger(
                f"{each}-failing",
                f"{url}/failing",
                broker=each,
                filters=[{"exact": {"type": "test.fail"}}],
                delivery={**quick, "deadLetterSink": {"uri": f"{url}/dls"}},
            ),
        ]
    return found


async def _publish(scene: Scene, number: int) -> None:
    """One event after the other; after each that gets no 202 the next process is tried."""
    account = scene.account
    target = number
    publisher: Publisher | None = None
    while account.sent < EVENTS:
        place = account.sent
        account.sent += 1
        kind = ("plain", "ask", "fail", "plain")[place % 4]
        name = f"{kind}-{place}"
        process = scene.processes[target % len(scene.processes)]
        publisher = publisher or Publisher(process.port)
        try:
            async with asyncio.timeout(ANSWER):
                status = await publisher.post(f"/default/{BROKERS[place % 8]}", event(name, f"test.{kind}"), b"x" * 200)
        except (OSError, EOFError):
            status = 0
        if status == 202:
            account.acknowledged.add(name)
            continue
        account.refused += 1
        target += 1
        publisher.close()
        publisher = None
        # A refused publisher that comes back at once would use up the events of the run while the channel is away.
        await asyncio.sleep(0.2)
    if publisher is not None:
        publisher.close()


async def _run(scene: Scene, trouble: Callable[[Scene], Awaitable[None]], capsys: pytest.CaptureFixture[str]) -> None:
    account = scene.account
    async with asyncio.TaskGroup() as group:
        for number in range(PUBLISHERS):
            group.create_task(_publish(scene, number))
        await eventually(lambda: account.sent > EVENTS // 4, "a quarter is sent", PATIENCE)
        await trouble(scene)
    try:
        await eventually(lambda: not any(account.owed().values()), "every event came to a good end", PATIENCE)
    finally:
        with capsys.disabled():
            print(f"\n{trouble.__name__.strip('_')}: {account}")  # noqa: T201 - the figures are what the test is for
    assert len(account.acknowledged) > EVENTS * 0.8
    repeated = sum(count - 1 for ids in account.settled.values() for count in ids.values())
    assert repeated <= 2 * len(BROKERS) * len(TRIGGERS) * WINDOW


async def _a_process_is_killed(scene: Scene) -> None:
    scene.processes[2].kill()


async def _a_process_is_stopped_past_its_lease(scene: Scene) -> None:
    stopped = scene.processes[2]
    acknowledged = len(scene.account.acknowledged)
    stopped.signal(signal.SIGSTOP)
    await asyncio.sleep(18)
    assert len(scene.account.acknowledged) > acknowledged
    stopped.signal(signal.SIGCONT)


async def _the_network_is_cut(scene: Scene) -> None:
    scene.wire.cut()
    await asyncio.sleep(20)
    scene.wire.mend()


async def _the_channel_is_killed(scene: Scene) -> None:
    scene.server.send(signal.SIGKILL)
    await asyncio.sleep(1)
    await asyncio.to_thread(scene.server.start)


async def _the_channel_is_stopped(scene: Scene) -> None:
    scene.server.send(signal.SIGSTOP)
    await asyncio.sleep(20)
    scene.server.send(signal.SIGCONT)


async def _a_node_of_the_channel_is_killed(scene: Scene) -> None:
    for node in (1, 2, 3):
        scene.server.send(signal.SIGKILL, node)
        await asyncio.to_thread(scene.server.start)
        await asyncio.sleep(2)


@pytest.mark.parametrize(
    "trouble",
    [
        _a_process_is_killed,
        _a_process_is_stopped_past_its_lease,
        _the_network_is_cut,
        _the_channel_is_killed,
        _the_channel_is_stopped,
    ],
)
async def test_nothing_is_lost(
    trouble: Callable[[Scene], Awaitable[None]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running("nats", tmp_path) as server:
        async with playing(server, tmp_path) as scene:
            await _run(scene, trouble, capsys)


async def test_nothing_is_lost_when_the_nodes_of_a_cluster_are_killed_in_turn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running("nats3", tmp_path) as server:
        async with playing(server, tmp_path) as scene:
            await _run(scene, _a_node_of_the_channel_is_killed, capsys)
