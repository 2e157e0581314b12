"""Nothing acknowledged is lost when the process is killed, again and again, under load.

20,000 events from 64 connections, five Triggers (one that works, one that replies, one that gets the replies, one whose
subscriber fails for good and has a dead letter sink, one without), and SIGKILL at ten random moments.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.system.support import Penstock, Publisher, Reply, Request, broker, event, eventually, sink, trigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.support import Sink

EVENTS = 20_000
CONNECTIONS = 64
KILLS = 10
WINDOW = 100
TRIGGERS = ("all", "replier", "replies", "failing", "unwanted")
KINDS = ("plain", "ask", "fail", "refuse")


@dataclass
class Run:
    """What happened so far: `settled[trigger]` counts how often each event came to a good end there."""

    acknowledged: set[str] = field(default_factory=set)
    sent: int = 0
    settled: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in TRIGGERS})
    flaky: set[str] = field(default_factory=set)

    def answer(self, request: Request) -> Reply:
        """What the subscribers do. The id of a reply is that of its cause, which makes it easy to follow."""
        name = request.path.strip("/")
        if name in ("failing", "unwanted"):
            return Reply(500 if name == "failing" else 400)
        if name == "all" and request.id.endswith("7") and request.id not in self.flaky:
            self.flaky.add(request.id)
            return Reply(503)
        self.settled["failing" if name == "dls" else name][request.id] += 1
        if name == "replier":
            headers = {**event(request.id, "test.reply"), "content-type": "text/plain"}
            return Reply(200, tuple(headers.items()), request.body)
        return Reply()

    def owed(self, dead: set[str]) -> dict[str, set[str]]:
        """For each Trigger the acknowledged events that have come to no good end."""
        wanted = {
            "all": self.acknowledged,
            "replier": {one for one in self.acknowledged if one.startswith("ask")},
            "replies": {one for one in self.acknowledged if one.startswith("ask")},
            "failing": {one for one in self.acknowledged if one.startswith("fail")},
        }
        owed = {name: ids - self.settled[name].keys() for name, ids in wanted.items()}
        return {**owed, "unwanted": {one for one in self.acknowledged if one.startswith("refuse")} - dead}


async def _publish(run: Run, penstock: Penstock, up: asyncio.Event) -> None:
    publisher = Publisher(penstock.port)
    while run.sent < EVENTS:
        number, run.sent = run.sent, run.sent + 1
        kind = KINDS[number % len(KINDS)]
        event_id = f"{kind}-{number}"
        await up.wait()
        try:
            status = await publisher.post("/default/default", event(event_id, f"test.{kind}"), b"x" * 200)
        except (OSError, EOFError):
            continue
        if status == 202:
            run.acknowledged.add(event_id)
    publisher.close()


async def _kill(run: Run, penstock: Penstock, up: asyncio.Event) -> None:
    for moment in sorted(random.sample(range(200, EVENTS - 200), KILLS)):
        await eventually(lambda moment=moment: run.sent >= moment, f"{moment} events are sent", 120)  # type: ignore[misc] # mypy has no type for a lambda with a default
        up.clear()
        penstock.kill()
        await penstock.start()
        up.set()


def _manifests(url: str) -> list[dict[str, object]]:
    quick = {"retry": 2, "backoffPolicy": "linear", "backoffDelay": "PT0.02S"}
    return [
        broker(),
        trigger(
            "all",
            f"{url}/all",
            filters=[{"prefix": {"type": "test."}}, {"not": {"exact": {"type": "test.reply"}}}],
            delivery=quick,
        ),
        trigger("replier", f"{url}/replier", filters=[{"exact": {"type": "test.ask"}}], delivery=quick),
        trigger("replies", f"{url}/replies", filters=[{"exact": {"type": "test.reply"}}], delivery=quick),
        trigger(
            "failing",
            f"{url}/failing",
            filter={"attributes": {"type": "test.fail"}},
            delivery={**quick, "deadLetterSink": {"uri": f"{url}/dls"}},
        ),
        trigger("unwanted", f"{url}/unwanted", filter={"attributes": {"type": "test.refuse"}}, delivery=quick),
    ]


@pytest.mark.system
@pytest.mark.timeout(400)
async def test_sigkill_loses_nothing(penstock: Callable[..., Penstock], capsys: pytest.CaptureFixture[str]) -> None:
    run = Run()
    one = penstock()
    await one.start()
    async with sink(run.answer) as subscriber:
        one.apply(*_manifests(subscriber.url))
        one.wait_ready("broker/default", *(f"trigger/{name}" for name in TRIGGERS))
        up = asyncio.Event()
        up.set()
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(_publish(run, one, up))
            group.create_task(_kill(run, one, up))
        dead: set[str] = set()
        await eventually(lambda: _all_settled(run, one, subscriber, dead), "every event came to a good end", 90)
    repeated = sum(count - 1 for ids in run.settled.values() for count in ids.values() if count > 1)
    delivered = sum(len(ids) for ids in run.settled.values())
    lost = sum(len(ids) for ids in run.owed(dead).values())
    with capsys.disabled():
        print(  # noqa: T201 - the figures are what the test is for
            f"\nacknowledged {len(run.acknowledged)}, delivered {delivered}, repeated {repeated}, dead {len(dead)}, lost {lost}"
        )
    assert len(run.acknowledged) > EVENTS * 0.8
    assert lost == 0
    assert repeated <= KILLS * len(TRIGGERS) * WINDOW
    assert await one.stop() == 0


def _all_settled(run: Run, penstock: Penstock, subscriber: Sink, dead: set[str]) -> bool:
    subscriber.requests.clear()
    owed = run.owed(dead)
    if any(owed[name] for name in owed if name != "unwanted"):
        return False
    dead |= {item["spec"]["event"]["id"] for item in penstock.dead_letters()}
    return not run.owed(dead)["unwanted"]
