"""Nothing acknowledged is lost when the process is killed, again and again, under load.

40,000 events (fewer where a channel is slower) from 64 connections, some of them in batches, and SIGKILL at up to twenty
random moments. The Triggers: one that works
and fails now and then, one that replies, one that gets the replies, one whose subscriber fails for good and has a dead letter
sink, one without, one with a CESQL filter and a rate, one that wants each publisher's events in order, and one whose subscriber
is down at first, so that its deliveries are parked.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.system.support import Penstock, Publisher, Reply, Request, broker, event, eventually, sink, trigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.support import Sink

CONNECTIONS = 64
WINDOW = 100
TRIGGERS = ("all", "replier", "replies", "failing", "unwanted", "cesql", "ordered", "late")
BATCH = 5
KINDS = ("plain", "ask", "fail", "refuse")


@dataclass
class Run:
    """What happens, and what happened so far: `settled[trigger]` counts how often each event came to a good end there."""

    events: int
    kills: int
    acknowledged: set[str] = field(default_factory=set)
    sent: int = 0
    settled: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in TRIGGERS})
    flaky: set[str] = field(default_factory=set)
    late_is_up: bool = False
    parked: int = 0
    first_of_key: dict[str, list[int]] = field(default_factory=dict)

    def answer(self, request: Request) -> Reply:
        """What the subscribers do. The id of a reply is that of its cause, which makes it easy to follow."""
        name = request.path.strip("/")
        if name in ("failing", "unwanted"):
            return Reply(500 if name == "failing" else 400)
        if name == "all" and request.id.endswith("7") and request.id not in self.flaky:
            self.flaky.add(request.id)
            return Reply(503)
        if name == "late" and not self.late_is_up:
            self.parked += 1
            return Reply(503)
        if name == "ordered" and request.id not in self.settled[name]:
            self.first_of_key.setdefault(request.headers["ce-partitionkey"], []).append(int(request.id.split("-")[1]))
        self.settled["failing" if name == "dls" else name][request.id] += 1
        if name == "replier":
            headers = {**event(request.id, "test.reply"), "content-type": "text/plain"}
            return Reply(200, tuple(headers.items()), request.body)
        return Reply()

    def account(self, dead: set[str]) -> str:
        """What became of the events, in a line."""
        delivered = sum(len(ids) for ids in self.settled.values())
        lost = {name: len(ids) for name, ids in self.owed(dead).items() if ids}
        return (
            f"\nacknowledged {len(self.acknowledged)}, delivered {delivered}, repeated {self.repeated}, dead {len(dead)}"
            f", lost {sum(lost.values())} {lost or ''}, {self.parked} attempts while a subscriber was down"
        )

    @property
    def repeated(self) -> int:
        """How many deliveries came again."""
        return sum(count - 1 for ids in self.settled.values() for count in ids.values() if count > 1)

    def owed(self, dead: set[str]) -> dict[str, set[str]]:
        """For each Trigger the acknowledged events that have come to no good end."""
        wanted = {
            "all": self.acknowledged,
            "replier": {one for one in self.acknowledged if one.startswith("ask")},
            "replies": {one for one in self.acknowledged if one.startswith("ask")},
            "failing": {one for one in self.acknowledged if one.startswith("fail")},
            "cesql": {one for one in self.acknowledged if one.startswith("plain") and one.endswith("0")},
            "ordered": {one for one in self.acknowledged if one.startswith("plain")},
            "late": {one for one in self.acknowledged if one.endswith("5")},
        }
        owed = {name: ids - self.settled[name].keys() for name, ids in wanted.items()}
        return {**owed, "unwanted": {one for one in self.acknowledged if one.startswith("refuse")} - dead}


async def _publish(run: Run, penstock: Penstock, up: asyncio.Event, name: str) -> None:
    """One event after the other, or one batch: each is sent when there was an answer to the one before, or none will come."""
    publisher = Publisher(penstock.port)
    while run.sent < run.events:
        size = BATCH if name.endswith("7") else 1
        numbers = range(run.sent, run.sent + size)
        run.sent += size
        ids = [f"{KINDS[number % len(KINDS)]}-{number}" for number in numbers]
        events = [event(one, f"test.{one.partition('-')[0]}", partitionkey=name) for one in ids]
        await up.wait()
        try:
            status = await (_post_batch(publisher, events) if size > 1 else _post(publisher, events[0]))
        except (OSError, EOFError):
            continue
        if status == 202:
            run.acknowledged |= set(ids)
    publisher.close()


async def _post(publisher: Publisher, one: dict[str, str]) -> int:
    return await publisher.post("/default/default", one, b"x" * 200)


async def _post_batch(publisher: Publisher, events: list[dict[str, str]]) -> int:
    batch = [{**{name.removeprefix("ce-"): value for name, value in one.items()}, "data": "x" * 200} for one in events]
    kind = {"content-type": "application/cloudevents-batch+json"}
    return await publisher.post("/default/default", kind, json.dumps(batch).encode())


async def _kill(run: Run, penstock: Penstock, up: asyncio.Event) -> None:
    for moment in sorted(random.sample(range(200, run.events - 200), run.kills)):
        await eventually(lambda moment=moment: run.sent >= moment, f"{moment} events are sent", 120)  # type: ignore[misc] # mypy has no type for a lambda with a default
        up.clear()
        penstock.kill()
        await penstock.start()
        run.late_is_up = run.sent > run.events // 2
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
        trigger(
            "cesql",
            f"{url}/cesql",
            filters=[{"cesql": "type IN ('test.plain', 'test.none') AND id LIKE '%0'"}],
            annotations={"penstock.dev/rate": "500/s"},
        ),
        trigger(
            "ordered",
            f"{url}/ordered",
            filters=[{"exact": {"type": "test.plain"}}],
            annotations={"penstock.dev/order": "key"},
        ),
        trigger(
            "late",
            f"{url}/late",
            filters=[{"suffix": {"id": "5"}}],
            delivery={"retry": 1000, "backoffPolicy": "linear", "backoffDelay": "PT1S"},
        ),
    ]


@pytest.mark.system
@pytest.mark.timeout(500)
@pytest.mark.parametrize(
    ("channel", "events", "kills"),
    [pytest.param("sqlite", 40_000, 20, id="sqlite"), pytest.param("jetstream", 10_000, 6, id="jetstream")],
    indirect=["channel"],
)
async def test_sigkill_loses_nothing(
    penstock: Callable[..., Penstock], events: int, kills: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(events, kills)
    one = penstock(env={"PENSTOCK_PARK_AFTER": "2"})
    await one.start()
    async with sink(run.answer) as subscriber:
        one.apply(*_manifests(subscriber.url))
        one.wait_ready("broker/default", *(f"trigger/{name}" for name in TRIGGERS))
        up = asyncio.Event()
        up.set()
        async with asyncio.TaskGroup() as group:
            for number in range(CONNECTIONS):
                group.create_task(_publish(run, one, up, f"p{number}"))
            group.create_task(_kill(run, one, up))
        dead: set[str] = set()
        try:
            await eventually(lambda: _all_settled(run, one, subscriber, dead), "every event came to a good end", 120)
        finally:
            with capsys.disabled():
                print(run.account(dead))  # noqa: T201 - the figures are what the test is for
    assert len(run.acknowledged) > run.events * 0.8
    assert run.parked > 0
    assert all(numbers == sorted(numbers) for numbers in run.first_of_key.values())
    assert len(run.first_of_key) > CONNECTIONS // 2
    assert run.repeated <= run.kills * len(TRIGGERS) * WINDOW
    assert await one.stop() == 0


def _all_settled(run: Run, penstock: Penstock, subscriber: Sink, dead: set[str]) -> bool:
    subscriber.requests.clear()
    owed = run.owed(dead)
    if any(owed[name] for name in owed if name != "unwanted"):
        return False
    dead |= {item["spec"]["event"]["id"] for item in penstock.dead_letters()}
    return not run.owed(dead)["unwanted"]
