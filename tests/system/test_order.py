"""Order by key and of all, rates and pauses, on the real process."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from tests.system.support import (
    CHANNELS,
    Penstock,
    Publisher,
    Reply,
    Request,
    broker,
    event,
    eventually,
    publishing,
    sink,
    trigger,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.system, pytest.mark.parametrize("channel", CHANNELS, indirect=True)]

KEYS = 1000
CONNECTIONS = 64
EVENTS = 6000
KILLS = 4
PATIENT = {"retry": 20, "backoffPolicy": "linear", "backoffDelay": "PT0.01S"}


class Ordered:
    """A subscriber that fails now and then, and checks that first deliveries of each key come in order."""

    def __init__(self) -> None:
        self.last: dict[tuple[str, str], int] = defaultdict(lambda: -1)
        self.seen: set[tuple[str, str]] = set()
        self.settled: dict[str, set[str]] = defaultdict(set)
        self.faults: list[str] = []
        self._random = random.Random(1)  # noqa: S311 - it decides which requests fail

    def __call__(self, request: Request) -> Reply:
        key = request.headers["ce-partitionkey"] if request.path == "/key" else ""
        number = int(request.id.rpartition("-")[2])
        if (request.path, request.id) not in self.seen:
            self.seen.add((request.path, request.id))
            if number <= self.last[request.path, key]:
                self.faults.append(f"{request.path} {key}: {number} after {self.last[request.path, key]}")
            self.last[request.path, key] = number
        if self._random.random() < 0.05:
            return Reply(503)
        self.settled[request.path].add(request.id)
        return Reply()


async def _publish(one: Penstock, up: asyncio.Event, keys: list[int], each: int, acknowledged: set[str]) -> None:
    """The events of some keys: one publisher sends all of a key, so their order in the log is that of their numbers."""
    publisher = Publisher(one.port)
    for number in range(each):
        for key in keys:
            await up.wait()
            event_id = f"{key}-{number}"
            try:
                status = await publisher.post("/default/default", event(event_id, partitionkey=str(key)))
            except (OSError, EOFError):
                continue
            if status == 202:
                acknowledged.add(event_id)
    publisher.close()


def _reaches(acknowledged: set[str], count: int) -> Callable[[], bool]:
    return lambda: len(acknowledged) >= count


@pytest.mark.timeout(240)
async def test_first_deliveries_of_a_key_are_in_order(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()
    ordered = Ordered()
    acknowledged: set[str] = set()
    async with sink(ordered) as subscriber:
        annotations = {"penstock.dev/order": "key", "penstock.dev/max-in-flight": "64"}
        one.apply(broker(), trigger("key", f"{subscriber.url}/key", annotations=annotations, delivery=PATIENT))
        one.wait_ready("trigger/key")
        up = asyncio.Event()
        up.set()
        async with asyncio.TaskGroup() as group:
            for lane in range(CONNECTIONS):
                keys = list(range(lane, KEYS, CONNECTIONS))
                group.create_task(_publish(one, up, keys, EVENTS // KEYS, acknowledged))
            for kill in range(1, KILLS + 1):
                await eventually(_reaches(acknowledged, kill * EVENTS // (KILLS + 2)), "events are taken", 60)
                up.clear()
                one.kill()
                await one.start()
                up.set()
        await eventually(lambda: acknowledged <= ordered.settled["/key"], "all are delivered", 60)
    assert ordered.faults == []
    assert len(acknowledged) > EVENTS * 0.9


@pytest.mark.timeout(120)
async def test_order_all_is_the_order_of_the_log(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()
    ordered = Ordered()
    acknowledged: set[str] = set()
    async with sink(ordered) as subscriber:
        annotations = {"penstock.dev/order": "all"}
        one.apply(broker(), trigger("all", f"{subscriber.url}/all", annotations=annotations, delivery=PATIENT))
        one.wait_ready("trigger/all")
        up = asyncio.Event()
        up.set()
        async with asyncio.TaskGroup() as group:
            # One publisher, so that the order of the log is known.
            group.create_task(_publish(one, up, [0], 400, acknowledged))
            for kill in (1, 2):
                await eventually(_reaches(acknowledged, kill * 100), "events are taken", 60)
                up.clear()
                one.kill()
                await one.start()
                up.set()
        await eventually(lambda: acknowledged <= ordered.settled["/all"], "all are delivered", 60)
    assert ordered.faults == []


async def test_a_rate_takes_effect_without_a_restart(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()
    async with sink() as subscriber, publishing(one.port) as publisher:
        slow = {"penstock.dev/rate": "1/m"}
        one.apply(broker(), trigger("t", subscriber.url, annotations=slow))
        one.wait_ready("trigger/t")
        for number in range(20):
            assert await publisher.post("/default/default", event(str(number))) == 202
        await eventually(lambda: subscriber.requests, "one may go at once")
        assert len(subscriber.requests) == 1
        one.kubectl("annotate", "trigger", "t", "penstock.dev/rate=1000/s", "--overwrite")
        await eventually(lambda: len(subscriber.requests) == 20, "the others follow")


async def test_a_pause_takes_effect_without_a_restart(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()
    async with sink() as subscriber, publishing(one.port) as publisher:
        one.apply(broker(), trigger("t", f"{subscriber.url}/t"), trigger("other", f"{subscriber.url}/other"))
        one.wait_ready("trigger/t", "trigger/other")
        one.kubectl("annotate", "trigger", "t", "penstock.dev/paused=true")
        reason = 'jsonpath={.status.conditions[?(@.type=="SubscriptionReady")].reason}'
        await eventually(lambda: one.kubectl("get", "trigger", "t", "-o", reason).stdout == "Paused", "it is paused")
        for number in range(5):
            assert await publisher.post("/default/default", event(str(number))) == 202
        await eventually(lambda: len(subscriber.ids("/other")) == 5, "the other Trigger goes on")
        assert subscriber.ids("/t") == []
        one.kubectl("annotate", "trigger", "t", "penstock.dev/paused-")
        await eventually(lambda: len(subscriber.ids("/t")) == 5, "what waited is delivered")


async def test_retry_after_holds_the_whole_lane(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()
    moments: list[float] = []

    def busy(request: Request) -> Reply:  # noqa: ARG001 - every request is answered alike
        moments.append(time.monotonic())
        return Reply(503, (("retry-after", "2"),)) if len(moments) == 1 else Reply()

    async with sink(busy) as subscriber, publishing(one.port) as publisher:
        annotations = {"penstock.dev/max-in-flight": "1"}
        delivery = {"retry": 3, "backoffDelay": "PT0.01S", "retryAfterMax": "PT1M"}
        one.apply(broker(), trigger("t", subscriber.url, annotations=annotations, delivery=delivery))
        one.wait_ready("trigger/t")
        for number in range(3):
            assert await publisher.post("/default/default", event(str(number))) == 202
        await eventually(lambda: len(moments) == 4, "all are delivered")
    assert min(moments[1:]) - moments[0] >= 1.9


async def test_a_status_says_what_the_lane_is_doing(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()
    async with sink() as subscriber, publishing(one.port) as publisher:
        one.apply(broker(), trigger("t", subscriber.url, annotations={"penstock.dev/rate": "1/h"}))
        one.wait_ready("trigger/t")
        for number in range(40):
            assert await publisher.post("/default/default", event(str(number))) == 202
        notes = "jsonpath={.status.annotations}"
        await eventually(lambda: "39 positions" in one.kubectl("get", "trigger", "t", "-o", notes).stdout, "it is told")
        assert "waiting for its rate" in one.kubectl("get", "trigger", "t", "-o", notes).stdout
        one.kubectl("annotate", "trigger", "t", "penstock.dev/rate-")
        await eventually(lambda: len(subscriber.requests) == 40, "all are delivered")
        await eventually(
            lambda: one.kubectl("get", "trigger", "t", "-o", notes).stdout == "{}", "there is nothing to tell"
        )
