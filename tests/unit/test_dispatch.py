"""One delivery from its first attempt to its settlement: every way through the picture in `dispatcher.dispatch`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from channels.records import DeliveryRecord, DeliveryState, LogName, Phase, RemoveDelivery, delivery_id
from dispatcher.dispatch import Job, Place, Settlement, dispatch
from dispatcher.outcome import Outcome, Result
from dispatcher.settings import DispatchSettings
from eventing import http_binding
from eventing.delivery import BackoffPolicy, DeliverySpec, Destination
from eventing.filters import EVERYTHING
from eventing.routing import ObjectName, TriggerRoute

if TYPE_CHECKING:
    from eventing.event import Event

PLACE = Place(LogName("ns", "default", "broker-uid"), "incarnation", 0, max_event_bytes=10_000)
SUBSCRIBER = Destination("http://subscriber.example/")
SINK = Destination("http://sink.example/")
INSTANT = DeliverySpec(retry=0, backoff_policy=BackoffPolicy.LINEAR, backoff_delay=0.0)

OK = Outcome(Result.ANSWERED, status=204)
ACCEPTED_WITH_BODY = Outcome(Result.ANSWERED, status=202, body=b"null")
FAIL = Outcome(Result.ANSWERED, status=500, body=b"oh no")
REFUSED = Outcome(Result.ANSWERED, status=400, body=b"never")
NO_ANSWER = Outcome(Result.REFUSED, detail="connection refused")


def an_event(ttl: int = 255) -> Event:
    headers = [(b"ce-specversion", b"1.0"), (b"ce-id", b"1"), (b"ce-source", b"/s"), (b"ce-type", b"t")]
    event = http_binding.admit(http_binding.parse(headers, b"data"), "2026-01-01T00:00:00Z")
    return msgspec.structs.replace(event, ttl=ttl)


def a_reply(body: bytes = b"reply", event_id: bytes = b"r") -> Outcome:
    headers = ((b"ce-specversion", b"1.0"), (b"ce-id", event_id), (b"ce-source", b"/s"), (b"ce-type", b"reply"))
    return Outcome(Result.ANSWERED, status=200, headers=headers, body=body)


def a_route(**changes: object) -> TriggerRoute:
    route = TriggerRoute("uid", ObjectName("ns", "trigger"), 1, EVERYTHING, SUBSCRIBER, delivery=INSTANT)
    return replace(route, **changes)  # type: ignore[arg-type] # the tests name fields of TriggerRoute


@dataclass
class Network:
    """Answers attempts in order, and keeps who was asked with what."""

    outcomes: list[Outcome]
    asked: list[tuple[str, bytes, bytes]] = field(default_factory=list)

    async def post(self, destination: Destination, head: bytes, body: bytes, *, timeout: float) -> Outcome:  # noqa: ASYNC109 - the signature of Post
        assert timeout > 0
        self.asked.append((destination.url, head, body))
        return self.outcomes.pop(0)

    @property
    def urls(self) -> list[str]:
        return [url for url, _, _ in self.asked]


@dataclass
class Lane:
    """A Recipient: `routes` are what it answers in turn, the last one for ever."""

    routes: list[TriggerRoute]
    parks: bool = True
    paused: float = 0.0

    @property
    def route(self) -> TriggerRoute:
        return self.routes.pop(0) if len(self.routes) > 1 else self.routes[0]

    def pause(self, seconds: float) -> None:
        self.paused = seconds

    def may_park(self) -> bool:
        return self.parks


async def run(
    network: Network, route: TriggerRoute, job: Job | None = None, settings: DispatchSettings | None = None
) -> Settlement | None:
    job = job or Job(PLACE, 7, an_event())
    return await dispatch(job, Lane([route]), network.post, settings or DispatchSettings(), asyncio.Event())


def the_record(settlement: Settlement | None) -> DeliveryRecord:
    assert settlement is not None
    assert len(settlement.changes) == 1
    record = settlement.changes[0]
    assert isinstance(record, DeliveryRecord)
    return record


@pytest.mark.parametrize("outcome", [OK, Outcome(Result.ANSWERED, status=200), ACCEPTED_WITH_BODY])
async def test_a_success_settles_without_a_trace(outcome: Outcome) -> None:
    network = Network([outcome])
    assert await run(network, a_route()) == Settlement()
    assert network.asked[0][2] == b"data"


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 503, 599, 600])
async def test_retryable_codes_are_tried_again(status: int) -> None:
    network = Network([Outcome(Result.ANSWERED, status=status), OK])
    assert await run(network, a_route(delivery=replace(INSTANT, retry=1))) == Settlement()
    assert len(network.asked) == 2


@pytest.mark.parametrize("status", [300, 301, 307, 400, 401, 403, 410, 422])
async def test_other_codes_are_not(status: int) -> None:
    network = Network([Outcome(Result.ANSWERED, status=status)])
    record = the_record(await run(network, a_route(delivery=replace(INSTANT, retry=5))))
    assert record.state is DeliveryState.DEAD
    assert len(network.asked) == 1


async def test_without_a_sink_an_exhausted_delivery_is_kept_as_dead() -> None:
    network = Network([FAIL, FAIL, NO_ANSWER])
    record = the_record(await run(network, a_route(delivery=replace(INSTANT, retry=2))))
    assert record.state is DeliveryState.DEAD
    assert record.id == delivery_id("incarnation", 0, 7, "uid")
    assert record.event.data == b"data"
    assert [attempt.outcome for attempt in record.attempts] == ["answered", "answered", "refused"]
    assert "connection refused, after 3 attempts; the Trigger has no dead letter sink" in record.reason


async def test_a_dead_letter_sink_gets_why() -> None:
    network = Network([REFUSED, OK])
    assert await run(network, a_route(dead_letter_sink=SINK)) == Settlement()
    url, head, body = network.asked[1]
    assert (url, body) == (SINK.url, b"data")
    assert b"ce-knativeerrordest: http://subscriber.example/\r\n" in head
    assert b"ce-knativeerrorcode: 400\r\n" in head
    assert b"ce-knativeerrordata: bmV2ZXI=\r\n" in head


async def test_no_answer_counts_as_500_at_the_sink() -> None:
    network = Network([NO_ANSWER, OK])
    await run(network, a_route(dead_letter_sink=SINK))
    assert b"ce-knativeerrorcode: 500\r\n" in network.asked[1][1]


async def test_a_sink_that_fails_is_retried_and_then_the_store_holds_the_event() -> None:
    network = Network([REFUSED, FAIL, FAIL])
    record = the_record(await run(network, a_route(dead_letter_sink=SINK, delivery=replace(INSTANT, retry=1))))
    assert network.urls == [SUBSCRIBER.url, SINK.url, SINK.url]
    assert record.state is DeliveryState.DEAD
    assert record.phase is Phase.DEAD_LETTER_SINK
    assert record.failure is not None
    assert (record.failure.code, record.failure.data) == (400, b"never")
    assert "then the dead letter sink http://sink.example/ failed after 2 attempts" in record.reason


async def test_a_reply_is_in_the_settlement() -> None:
    settlement = await run(Network([a_reply()]), a_route(), Job(PLACE, 7, an_event(ttl=9)))
    assert settlement is not None
    assert settlement.reply is not None
    assert (settlement.reply.type, settlement.reply.data, settlement.reply.ttl) == ("reply", b"reply", 8)


async def test_a_reply_that_went_through_too_many_brokers_is_kept_as_dead() -> None:
    record = the_record(await run(Network([a_reply()]), a_route(), Job(PLACE, 7, an_event(ttl=1))))
    assert record.state is DeliveryState.DEAD
    assert record.event.type == "reply"
    assert "knativebrokerttl" in record.reason
    assert record.id != delivery_id("incarnation", 0, 7, "uid")


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(Result.ANSWERED, status=200, headers=((b"content-type", b"application/json"),), body=b"null"),
        a_reply(event_id=b""),
        Outcome(Result.ANSWERED, status=200, headers=((b"content-type", b"application/cloudevents+json"),), body=b""),
    ],
)
async def test_a_success_that_cannot_be_understood_is_a_failed_delivery(outcome: Outcome) -> None:
    network = Network([outcome, OK])
    assert await run(network, a_route(delivery=replace(INSTANT, retry=1))) == Settlement()
    assert len(network.asked) == 2


async def test_a_reply_that_never_fits_makes_its_cause_a_dead_letter() -> None:
    record = the_record(await run(Network([a_reply(b"x" * 20_000)]), a_route(delivery=replace(INSTANT, retry=5))))
    assert record.state is DeliveryState.DEAD
    assert "the channel takes 10000" in record.reason


async def test_a_late_retry_is_parked() -> None:
    route = a_route(delivery=DeliverySpec(retry=3, backoff_delay=60.0))
    record = the_record(await run(Network([FAIL]), route))
    assert record.state is DeliveryState.RETRYING
    assert record.tries == 1
    assert record.due >= record.updated + 59


async def test_a_parked_delivery_goes_on_where_it_was() -> None:
    route = a_route(delivery=replace(INSTANT, retry=3), dead_letter_sink=SINK)
    parked = the_record(
        await run(Network([FAIL]), replace(route, delivery=replace(INSTANT, retry=3, backoff_delay=60.0)))
    )
    job = Job(PLACE, 7, parked.event, parked)
    again = the_record(await run(Network([FAIL]), route, job))
    assert (again.id, again.tries, len(again.attempts)) == (parked.id, 2, 2)
    settled = await run(Network([OK]), route, msgspec.structs.replace(job, stored=again))
    assert settled == Settlement(changes=(RemoveDelivery(parked.id),))


async def test_retry_after_is_honoured_up_to_its_limit() -> None:
    asked = Outcome(Result.ANSWERED, status=503, retry_after=500.0)
    route = a_route(delivery=replace(INSTANT, retry=1, retry_after_max=100.0))
    record = the_record(await run(Network([asked]), route))
    assert 99 <= record.due - record.updated <= 101
    ignored = a_route(delivery=replace(INSTANT, retry=1))
    assert await run(Network([asked, OK]), ignored) == Settlement()


async def test_nothing_is_sent_for_a_held_trigger() -> None:
    network = Network([])
    assert await run(network, a_route(held="the subscriber cannot be resolved")) is None
    assert network.asked == []


async def test_stopping_ends_a_back_off_unsettled() -> None:
    stopping = asyncio.Event()
    network = Network([FAIL])
    route = a_route(delivery=replace(INSTANT, retry=1, backoff_delay=20.0))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(
            dispatch(Job(PLACE, 7, an_event()), Lane([route]), network.post, DispatchSettings(), stopping)
        )
        while not network.asked:  # noqa: ASYNC110 - the attempt is made in another task
            await asyncio.sleep(0)
        stopping.set()
    assert task.result() is None


async def test_a_changed_trigger_takes_effect_with_the_next_attempt() -> None:
    routes = [a_route(delivery=replace(INSTANT, retry=1)), a_route(subscriber=SINK, delivery=replace(INSTANT, retry=1))]
    network = Network([FAIL, OK])
    await dispatch(Job(PLACE, 7, an_event()), Lane(routes), network.post, DispatchSettings(), asyncio.Event())
    assert network.urls == [SUBSCRIBER.url, SINK.url]
