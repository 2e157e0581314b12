"""The dispatcher over a real SQLite log, with a network that the test scripts: windows, tail and sweep, restarts, retention."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from channels.channel import ChannelSettings
from channels.errors import ChannelFull, ChannelUnavailable, ClaimLost
from channels.records import Claim, DeliveryState, LogName, StartRecord, slot_of
from channels.registry import open_backend
from dispatcher.budget import ByteBudget
from dispatcher.dispatcher import Dispatcher
from dispatcher.outcome import Outcome, Result
from dispatcher.retention import mark_of, trim
from dispatcher.services import LaneReport, Services
from dispatcher.settings import DispatchSettings
from eventing import http_binding
from eventing.delivery import BackoffPolicy, DeliverySpec, Destination
from eventing.filters import EVERYTHING, Exact
from eventing.routing import BrokerRoute, ObjectName, Order, Retention, RoutingTable, TriggerRoute

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from channels.driver import Backend, Log, State
    from channels.records import Change, Page, SlotState
    from eventing.event import Event

BROKER = LogName("ns", "default", "broker-uid")
QUICK = DeliverySpec(retry=1, backoff_policy=BackoffPolicy.LINEAR, backoff_delay=0.0)
SETTINGS = DispatchSettings(
    checkpoint_interval=0.001, tail_interval=0.01, store_retry=0.01, grace=0.2, page_records=16, sweep_records=16
)
OK = Outcome(Result.ANSWERED, status=204)


def an_event(number: int, size: int = 10, kind: str = "t", key: str = "") -> Event:
    headers = [(b"ce-specversion", b"1.0"), (b"ce-id", b"%d" % number), (b"ce-source", b"/s")]
    headers.append((b"ce-type", kind.encode()))
    if key:
        headers.append((b"ce-partitionkey", key.encode()))
    return http_binding.admit(http_binding.parse(headers, b"x" * size), "2026-01-01T00:00:00Z")


def a_trigger(name: str, **changes: object) -> TriggerRoute:
    route = TriggerRoute(
        f"uid-{name}", ObjectName("ns", name), 1, EVERYTHING, Destination(f"http://{name}.example/"), delivery=QUICK
    )
    return replace(route, **changes)  # type: ignore[arg-type] # the tests name fields of TriggerRoute


def a_table(*triggers: TriggerRoute, live: bool = True) -> RoutingTable:
    name = ObjectName("ns", "default")
    return RoutingTable(1, live, MappingProxyType({name: BrokerRoute("broker-uid", name, triggers)}))


@dataclass
class Network:
    """Answers by host: 204 at once, unless `answers` says otherwise; what is `blocked` waits until it is let go."""

    got: dict[str, list[str]] = field(default_factory=dict)
    answers: dict[str, Outcome] = field(default_factory=dict)
    blocked: dict[str, asyncio.Event] = field(default_factory=dict)
    in_flight: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)

    def block(self, name: str) -> None:
        self.blocked[name] = asyncio.Event()

    def let_go(self, name: str) -> None:
        self.blocked.pop(name).set()

    async def post(self, destination: Destination, head: bytes, body: bytes, *, timeout: float) -> Outcome:  # noqa: ASYNC109, ARG002 - the signature of Post
        name = destination.url.removeprefix("http://").removesuffix(".example/")
        self.got.setdefault(name, []).append(http_binding.decode_head(head)["id"])
        self.in_flight[name] += 1
        self.most[name] = max(self.most[name], self.in_flight[name])
        try:
            if name in self.blocked:
                await self.blocked[name].wait()
            return self.answers.get(name, OK)
        finally:
            self.in_flight[name] -= 1

    def ids(self, name: str) -> list[str]:
        return self.got.get(name, [])


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in tasks of the dispatcher
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def opened(path: Path) -> AsyncIterator[tuple[Backend, Log]]:
    async with open_backend("sqlite:", path, ChannelSettings()) as backend:
        yield backend, await backend.create(BROKER, {})


async def start(backend: Backend, log: Log, *names: str, position: int = 0) -> None:
    for name in names:
        await backend.state.put_start(StartRecord(f"uid-{name}", BROKER, log.incarnation, {0: position}))


@dataclass
class Told:
    """What the dispatcher tells of its lanes and logs."""

    lanes: dict[str, LaneReport] = field(default_factory=dict)
    marks: list[int] = field(default_factory=list)


@contextlib.asynccontextmanager
async def dispatching(
    backend: Backend,
    network: Network,
    table: RoutingTable,
    settings: DispatchSettings = SETTINGS,
    *,
    crash: bool = False,
    told: Told | None = None,
) -> AsyncIterator[Dispatcher]:
    """A dispatcher that runs; leaving stops it in good order, or (`crash`) without a word."""
    services = Services(network.post, settings, ByteBudget(settings.byte_budget), lambda *_: None)
    if told is not None:
        services = replace(services, on_lane=told.lanes.__setitem__, on_mark=lambda _, mark: told.marks.append(mark))
    dispatcher = Dispatcher(backend, services)
    dispatcher.publish(table)
    async with asyncio.TaskGroup() as group:
        run = group.create_task(dispatcher.run())
        yield dispatcher
        if crash:
            run.cancel()
        else:
            dispatcher.stop()


async def claim_of(backend: Backend) -> tuple[int, Claim]:
    slot = slot_of(BROKER, 0)
    return slot, (await backend.state.claims())[slot]


async def state_of(backend: Backend) -> SlotState:
    return await backend.state.load(slot_of(BROKER, 0))


async def test_every_trigger_gets_every_event_in_order(tmp_path: Path) -> None:
    network = Network()
    async with opened(tmp_path) as (backend, log):
        await start(backend, log, "a", "b")
        async with dispatching(backend, network, a_table(a_trigger("a"), a_trigger("b"))):
            for number in range(50):
                await log.append([an_event(number)])
            await until(lambda: len(network.ids("a")) == len(network.ids("b")) == 50)
        wanted = [str(number) for number in range(50)]
        assert network.ids("a") == network.ids("b") == wanted
        state = await state_of(backend)
        assert state.tails[0].members == {"uid-a", "uid-b"}
        assert state.tails[0].mark.position == (await log.bounds(0)).next - 1
        assert state.cursors == ()


async def test_a_trigger_without_a_record_gets_nothing(tmp_path: Path) -> None:
    network = Network()
    async with opened(tmp_path) as (backend, log):
        await start(backend, log, "known")
        async with dispatching(backend, network, a_table(a_trigger("known"), a_trigger("unknown"))):
            await log.append([an_event(1)])
            await until(lambda: network.ids("known") == ["1"])
        assert network.ids("unknown") == []


async def test_the_window_is_never_exceeded(tmp_path: Path) -> None:
    network = Network()
    async with opened(tmp_path) as (backend, log):
        await start(backend, log, "a")
        async with dispatching(backend, network, a_table(a_trigger("a", max_in_flight=4))):
            network.block("a")
            await log.append([an_event(number) for number in range(100)])
            await until(lambda: network.in_flight["a"] == 4)
            network.let_go("a")
            await until(lambda: len(network.ids("a")) == 100)
        assert network.most["a"] == 4


async def test_a_place_in_the_window_frees_when_the_settlement_is_durable(tmp_path: Path) -> None:
    network = Network()
    async with opened(tmp_path) as (backend, log):
        await start(backend, log, "a")
        slow = replace(SETTINGS, checkpoint_interval=30.0, tail_interval=30.0)
        async with dispatching(backend, network, a_table(a_trigger("a", max_in_flight=10)), slow):
            await log.append([an_event(number) for number in range(4)])
            await until(lambda: len(network.ids("a")) == 4)
            await log.append([an_event(number) for number in range(4, 30)])
            # Half a window that is settled brings about a checkpoint, whatever the interval.
            await until(lambda: len(network.ids("a")) == 30)


async def test_a_slow_trigger_does_not_delay_another_and_catches_up(tmp_path: Path) -> None:
    network = Network()
    async with opened(tmp_path) as (backend, log):
        await start(backend, log, "slow", "fast")
        network.block("slow")
        table = a_table(a_trigger("slow", max_in_flight=2), a_trigger("fast"))
        async with dispatching(backend, network, table):
            for number in range(0, 1000, 10):
                await log.append([an_event(n) for n in range(number, number + 10)])
            await until(lambda: len(network.ids("fast")) == 1000)
            assert len(network.ids("slow")) == 2
            network.let_go("slow")
            # Events keep coming while it catches up.
            for number in range(1000, 1100):
                await log.append([an_event(number)])
            await until(lambda: len(network.ids("slow")) == 1100)
        assert network.ids("slow") == [str(number) for number in range(1100)]
        assert (await state_of(backend)).cursors == ()


@pytest.mark.parametrize("order", [Order.KEY, Order.ALL])
async def test_what_waits_for_its_turn_does_not_keep_others_waiting(tmp_path: Path, order: Order) -> None:
    network = Network()
    async with opened(tmp_path) as (backend, log):
        await start(backend, log, "ordered", "fast")
        network.block("ordered")
        table = a_table(a_trigger("ordered", order=order), a_trigger("fast"))
        async with dispatching(backend, network, table):
            for number in range(0, 1000, 10):
                await log.append([an_event(n, key="k") for n in range(number, number + 10)])
            await until(lambda: len(network.ids("fast")) == 1000)
            assert network.ids("ordered") == ["0"]
            network.let_go("ordered")
            await until(lambda: len(network.ids("ordered")) == 1000)
        assert network.ids("ordered") == [str(number) for number in range(1000)]


@pytest.mark.parametrize("window", [1, 7, 100])
async def test_a_crash_loses_nothing_and_repeats_at_most_the_window(tmp_path: Path, window: int) -> None:
    network = Network()
    table = a_table(a_trigger("a", max_in_flight=window), a_trigger("b", max_in_flight=window))
    async with opened(tmp_path) as (backend, log):
        await start(backend, log, "a", "b")
    for crash in range(6):
        async with opened(tmp_path) as (backend, log), dispatching(backend, network, table, crash=True):
            sent = len(network.ids("a"))
            await log.append([an_event(crash * 100 + number) for number in range(100)])
            await until(lambda sent=sent: len(network.ids("a")) >= sent + 40)  # type: ignore[misc] # mypy has no type for a lambda with a default
    async with opened(tmp_path) as (backend, log), dispatching(backend, network, table):
        await until(lambda: len(set(network.ids("a"))) == len(set(network.ids("b"))) == 600)
    for name in ("a", "b"):
        assert len(network.ids(name)) - 600 <= 6 * window


async def test_what_is_in_flight_at_the_stop_is_sent_again(tmp_path: Path) -> None:
    network = Network()
    network.block("a")
    async with opened(tmp_path) as (backend, log):
        await start(backend, log, "a")
        async with dispatching(backend, network, a_table(a_trigger("a"))):
            await log.append([an_event(1)])
            await until(lambda: network.in_flight["a"] == 1)
        assert (await state_of(backend)).cursors[0].pending == (1,)
        network.let_go("a")
        async with dispatching(backend, network, a_table(a_trigger("a"))):
            await until(lambda: network.ids("a") == ["1", "1"])


async def test_a_trigger_that_a_cached_table_lacks_keeps_its_place(tmp_path: Path) -> None:
    network = Network()
    async with opened(tmp_path) as (backend, log):
        await start(backend, log, "a", "b")
        both = a_table(a_trigger("a"), a_trigger("b"))
        async with dispatching(backend, network, both):
            await log.append([an_event(1)])
            await until(lambda: network.ids("a") == network.ids("b") == ["1"])
        async with dispatching(backend, network, a_table(a_trigger("b"), live=False)) as dispatcher:
            await log.append([an_event(2)])
            await until(lambda: network.ids("b") == ["1", "2"])
            dispatcher.publish(both)
            await until(lambda: network.ids("a") == ["1", "2"])


async def test_a_trigger_that_a_live_table_lacks_is_forgotten(tmp_path: Path) -> None:
    network = Network()
    async with opened(tmp_path) as (backend, log):
        await start(backend, log, "a", "b")
        async with dispatching(backend, network, a_table(a_trigger("a"), a_trigger("b"))) as dispatcher:
            await log.append([an_event(1)])
            await until(lambda: network.ids("a") == network.ids("b") == ["1"])
            dispatcher.publish(a_table(a_trigger("b")))
            await log.append([an_event(2)])
            await until(lambda: network.ids("b") == ["1", "2"])
        assert network.ids("a") == ["1"]
        assert await backend.state.get_start("uid-a", BROKER) is None
        assert (await state_of(backend)).tails[0].members == {"uid-b"}


async def test_a_held_trigger_gets_later_what_came_meanwhile(tmp_path: Path) -> None:
    network = Network()
    async with opened(tmp_path) as (backend, log):
        await start(backend, log, "a", "b")
        async with dispatching(backend, network, a_table(a_trigger("a"), a_trigger("b"))) as dispatcher:
            await log.append([an_event(0)])
            await until(lambda: network.ids("a") == network.ids("b") == ["0"])
            dispatcher.publish(a_table(a_trigger("a", held="paused"), a_trigger("b")))
            for number in range(1, 300):
                await log.append([an_event(number)])
            await until(lambda: len(network.ids("b")) == 300)
            assert network.ids("a") == ["0"]
            dispatcher.publish(a_table(a_trigger("a"), a_trigger("b")))
            await until(lambda: len(network.ids("a")) == 300)
        assert network.ids("a") == [str(number) for number in range(300)]


async def test_a_small_budget_bounds_what_is_held_and_everything_still_goes(tmp_path: Path) -> None:
    network = Network()
    network.block("a")
    network.block("b")
    settings = replace(SETTINGS, byte_budget=20_000)
    async with opened(tmp_path) as (backend, log):
        await start(backend, log, "a", "b")
        async with dispatching(backend, network, a_table(a_trigger("a"), a_trigger("b")), settings):
            await log.append([an_event(number, size=1000) for number in range(100)])
            await until(lambda: network.in_flight.total() >= 10)
            assert network.in_flight.total() < 30
            network.let_go("a")
            network.let_go("b")
            await until(lambda: len(network.ids("a")) == len(network.ids("b")) == 100)


async def test_a_parked_delivery_comes_back_after_a_restart(tmp_path: Path) -> None:
    network = Network(answers={"a": Outcome(Result.ANSWERED, status=503)})
    patient = DeliverySpec(retry=5, backoff_policy=BackoffPolicy.LINEAR, backoff_delay=0.3)
    table = a_table(a_trigger("a", delivery=patient))
    settings = replace(SETTINGS, park_after=0.0)
    async with opened(tmp_path) as (backend, log):
        await start(backend, log, "a")
        async with dispatching(backend, network, table, settings):
            await log.append([an_event(number) for number in range(30)])
            await until(lambda: len(network.ids("a")) >= 30)
        parked = await backend.state.list_deliveries()
        assert {record.state for record in parked.deliveries} == {DeliveryState.RETRYING}
        assert len(parked.deliveries) == 30
    network.answers.clear()
    async with opened(tmp_path) as (backend, log), dispatching(backend, network, table, settings):
        seen = Counter(network.ids("a"))
        await until(lambda: all(Counter(network.ids("a"))[one] > count for one, count in seen.items()))
        await asyncio.sleep(0)
    async with opened(tmp_path) as (backend, log):
        assert (await backend.state.list_deliveries()).deliveries == ()


@pytest.mark.parametrize("bound", [{"max_parked": 5}, {"max_parked_bytes": 5 * 200}])
async def test_at_the_bound_nothing_more_is_parked(tmp_path: Path, bound: dict[str, int]) -> None:
    network = Network(answers={"a": Outcome(Result.ANSWERED, status=503)})
    patient = DeliverySpec(retry=9, backoff_policy=BackoffPolicy.LINEAR, backoff_delay=20.0)
    settings = replace(SETTINGS, park_after=0.0, **bound)
    async with opened(tmp_path) as (backend, log):
        await start(backend, log, "a")
        async with dispatching(backend, network, a_table(a_trigger("a", delivery=patient, max_in_flight=3)), settings):
            for number in range(40):
                await log.append([an_event(number, size=200 - an_event(number, size=0).size)])
            await until(lambda: len(network.ids("a")) >= 8)
            # Those that wait stand in the window; one window more than the bound may have been under way.
            assert len(network.ids("a")) <= 5 + 2 * 3
        assert len((await backend.state.list_deliveries()).deliveries) <= 5 + 3


class Failing:
    """A State whose writes fail for a while."""

    def __init__(self, backend: Backend) -> None:
        self._state = backend.state
        self.failures = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._state, name)

    async def put(self, slot: int, claim: Claim, changes: Sequence[Change]) -> None:
        if self.failures:
            self.failures -= 1
            raise ChannelUnavailable("the disk is away")
        await self._state.put(slot, claim, changes)


async def test_a_store_that_fails_for_a_while_forgets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network()
    async with opened(tmp_path) as (backend, log):
        await start(backend, log, "a")
        failing = Failing(backend)
        failing.failures = 5
        monkeypatch.setattr(type(backend), "state", property(lambda _: failing))
        async with dispatching(backend, network, a_table(a_trigger("a", max_in_flight=10))):
            await log.append([an_event(number) for number in range(100)])
            await until(lambda: len(network.ids("a")) == 100)
        assert failing.failures == 0
        assert network.ids("a") == [str(number) for number in range(100)]
        assert (await state_of(backend)).cursors == ()


async def test_a_deleted_broker_ends_quietly(tmp_path: Path) -> None:
    network = Network()
    async with opened(tmp_path) as (backend, log):
        await start(backend, log, "a")
        async with dispatching(backend, network, a_table(a_trigger("a"))) as dispatcher:
            await log.append([an_event(1)])
            await until(lambda: network.ids("a") == ["1"])
            dispatcher.publish(RoutingTable(2, live=True))
            await backend.delete(BROKER)
        assert list(await backend.list()) == []


async def test_retention_never_passes_what_is_not_settled(tmp_path: Path) -> None:
    network = Network()
    async with opened(tmp_path) as (backend, log):
        await log.append([an_event(number, size=1000) for number in range(100)])
        now = time.time()
        old = Retention(age=0.0)
        assert await trim(log, 0, 40, now + 10, old, SETTINGS) == 39
        assert (await log.bounds(0)).first == 40
        assert await trim(log, 0, 40, now + 10, old, SETTINGS) == 0
        small = Retention(size=(await log.stats()).bytes // 2)
        removed = await trim(log, 0, 101, now, small, SETTINGS)
        assert 29 <= removed <= 32
        await start(backend, log, "a", position=(await log.bounds(0)).first - 1)
        async with dispatching(backend, network, a_table(a_trigger("a"))):
            await until(lambda: len(network.ids("a")) == 61 - removed)


@pytest.mark.parametrize(
    ("fullness", "marks"),
    [
        ([0.1, 0.49], [0, 0]),
        ([0.5, 0.6, 0.46, 0.44], [50, 50, 50, 0]),
        ([0.79, 0.8, 0.76, 0.74], [50, 80, 80, 50]),
        ([1.0, 0.96, 0.94, 0.1], [100, 100, 80, 0]),
        ([1.2], [100]),
    ],
)
def test_marks_are_left_later_than_they_are_reached(fullness: list[float], marks: list[int]) -> None:
    told, mark = [], 0
    for full in fullness:
        mark = mark_of(full, mark)
        told.append(mark)
    assert told == marks


async def test_a_full_log_gives_up_what_is_settled_and_says_so(tmp_path: Path) -> None:
    """Room for new events is worth more than what is kept for replay."""
    network, told = Network(), Told()
    channels = ChannelSettings(max_file_bytes=4 * 1024 * 1024)
    async with open_backend("sqlite:", tmp_path, channels) as backend:
        log = await backend.create(BROKER, {})
        await start(backend, log, "a")
        settings = replace(SETTINGS, mark_interval=0.01)
        async with dispatching(backend, network, a_table(a_trigger("a")), settings, told=told):
            stored = 0
            while stored < 600:
                try:
                    await log.append([an_event(stored, size=20_000)])
                    stored += 1
                except ChannelFull:
                    await asyncio.sleep(0.001)
            await until(lambda: len(network.ids("a")) == 600)
        assert set(told.marks) >= {50, 80}


async def test_a_trigger_that_is_overtaken_says_how_much_it_lost(tmp_path: Path) -> None:
    """With `whenFull: dropOldest` what nobody has read goes too, and stands in the Trigger's report."""
    network, told = Network(), Told()
    channels = ChannelSettings(max_file_bytes=4 * 1024 * 1024)
    async with open_backend("sqlite:", tmp_path, channels) as backend:
        log = await backend.create(BROKER, {"whenFull": "dropOldest"})
        await start(backend, log, "a")
        settings = replace(SETTINGS, report_interval=0.01)
        paused = a_table(a_trigger("a", held="it is paused"))
        async with dispatching(backend, network, paused, settings, told=told) as dispatcher:
            for number in range(600):
                await log.append([an_event(number, size=20_000)])
            skipped = (await log.bounds(0)).first - 1
            assert skipped > 300
            dispatcher.publish(a_table(a_trigger("a")))
            await until(lambda: len(network.ids("a")) == 600 - skipped)
            await until(lambda: "uid-a" in told.lanes and told.lanes["uid-a"] == LaneReport(skipped=skipped))
        assert network.ids("a")[0] == str(skipped)


@contextlib.contextmanager
def reads_counted(log: Log) -> Iterator[Counter[str]]:
    """Counts the pages that are read from logs of this kind."""
    count: Counter[str] = Counter()
    read = type(log).read

    async def counted(self: Log, partition: int, after: int, limit: int) -> Page:
        count["reads"] += 1
        return await read(self, partition, after, limit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(log), "read", counted)
        yield count


@dataclass
class Ownership:
    """The State of a backend that says what a test wants of its claims."""

    real: State
    numbers: dict[int, int]
    expired: bool = False
    refuse: bool = False
    released: list[int] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)

    async def claims(self) -> dict[int, Claim]:
        return {slot: Claim(slot, number, 0.0) for slot, number in self.numbers.items()}

    async def claims_changed(self) -> None:
        await self.changed.wait()
        self.changed.clear()

    def may_start(self, claim: Claim) -> bool:
        return not self.expired and self.numbers.get(claim.slot) == claim.number

    async def release(self, slot: int) -> None:
        self.released.append(slot)

    async def put(self, slot: int, claim: Claim, changes: Sequence[Change]) -> None:  # noqa: ARG002 - the real one has another
        if self.refuse:
            raise ClaimLost("a test said so")
        await self.real.put(slot, (await self.real.claims())[slot], changes)

    def say(self, numbers: dict[int, int]) -> None:
        self.numbers = numbers
        self.changed.set()


@dataclass
class Owned:
    """A backend whose State is an Ownership."""

    real: Backend
    state: Ownership

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)


def owned(backend: Backend) -> tuple[Backend, Ownership, int]:
    slot = slot_of(BROKER, 0)
    ownership = Ownership(backend.state, {slot: 1})
    return Owned(backend, ownership), ownership, slot  # type: ignore[return-value] # the rest is the real one's


async def test_a_slot_goes_to_another_process_when_what_is_in_flight_has_settled(tmp_path: Path) -> None:
    network = Network()
    async with opened(tmp_path) as (real, log):
        backend, ownership, slot = owned(real)
        await start(backend, log, "a")
        network.block("a")
        async with dispatching(backend, network, a_table(a_trigger("a", max_in_flight=2)), replace(SETTINGS, grace=10)):
            await log.append([an_event(number) for number in range(5)])
            await until(lambda: len(network.ids("a")) == 2)
            ownership.say({})
            await log.append([an_event(5)])
            assert not ownership.released
            network.let_go("a")
            await until(lambda: ownership.released == [slot])
            assert network.ids("a") == ["0", "1"]
            ownership.say({slot: 2})
            await until(lambda: len(network.ids("a")) == 6)
        assert network.ids("a") == ["0", "1", "2", "3", "4", "5"]


async def test_nothing_is_sent_after_the_lease_and_everything_when_it_is_taken_again(tmp_path: Path) -> None:
    network = Network()
    network.answers["retried"] = Outcome(Result.ANSWERED, status=503)
    spec = replace(QUICK, retry=1000, backoff_delay=0.01)
    async with opened(tmp_path) as (real, log):
        backend, ownership, slot = owned(real)
        await start(backend, log, "a", "retried")
        table = a_table(a_trigger("a"), a_trigger("retried", delivery=spec))
        async with dispatching(backend, network, table):
            await log.append([an_event(0)])
            await until(lambda: len(network.ids("retried")) > 3)
            ownership.expired = True
            seen = {name: len(network.ids(name)) for name in ("a", "retried")}
            await log.append([an_event(1)])
            await until(lambda: not network.in_flight.total())
            assert len(network.ids("a")) == seen["a"]
            assert len(network.ids("retried")) <= seen["retried"] + 1
            ownership.expired = False
            network.answers.clear()
            ownership.say({slot: 2})
            await until(lambda: set(network.ids("a")) == set(network.ids("retried")) == {"0", "1"})


async def test_who_lost_a_slot_to_another_stops_and_repeats_at_most_the_window(tmp_path: Path) -> None:
    network = Network()
    async with opened(tmp_path) as (real, log):
        backend, ownership, slot = owned(real)
        await start(backend, log, "a")
        async with dispatching(backend, network, a_table(a_trigger("a", max_in_flight=3))):
            await log.append([an_event(number) for number in range(3)])
            await until(lambda: len(network.ids("a")) == 3)
            ownership.refuse = True
            await log.append([an_event(number) for number in range(3, 20)])
            await until(lambda: not network.in_flight.total() and len(network.ids("a")) >= 6)
            ownership.refuse = False
            ownership.say({slot: 2})
            await until(lambda: set(network.ids("a")) == {str(number) for number in range(20)})
        assert sum(count - 1 for count in Counter(network.ids("a")).values()) <= 6


async def test_triggers_that_lag_are_read_together(tmp_path: Path) -> None:
    network = Network()
    async with opened(tmp_path) as (backend, log):
        for number in range(0, 2000, 100):
            await log.append([an_event(n) for n in range(number, number + 100)])
        for number in range(20):
            await start(backend, log, f"t{number}", position=number * 50)
        with reads_counted(log) as count:
            table = a_table(*(a_trigger(f"t{number}", max_in_flight=5000) for number in range(20)))
            settings = replace(SETTINGS, page_records=100, sweep_records=100)
            async with dispatching(backend, network, table, settings):
                await until(lambda: sum(map(len, network.got.values())) == sum(2000 - n * 50 for n in range(20)))
        # One pass over the log has 20 pages; each Trigger on its own would have read 300.
        assert count["reads"] < 3 * 20


async def test_a_thousand_triggers_at_a_thousand_places_are_read_in_two_passes(tmp_path: Path) -> None:
    network = Network()
    async with opened(tmp_path) as (backend, log):
        for number in range(0, 2000, 100):
            await log.append([an_event(n, kind=f"kind-{n % 100}") for n in range(number, number + 100)])
        for number in range(1000):
            await start(backend, log, f"t{number}", position=number * 2)
        triggers = [
            a_trigger(f"t{number}", filter=Exact((("type", f"kind-{number % 100}"),)), max_in_flight=5000)
            for number in range(1000)
        ]
        # Position p holds event p - 1, and a Trigger is owed what lies after its place.
        owed = sum(len(range(2 * number, 2000)[(number % 100 - 2 * number) % 100 :: 100]) for number in range(1000))
        with reads_counted(log) as count:
            settings = replace(SETTINGS, page_records=100, sweep_records=100)
            async with dispatching(backend, network, a_table(*triggers), settings):
                await until(lambda: sum(map(len, network.got.values())) == owed)
        # One pass has 20 pages; each Trigger on its own would have read some 10,000.
        assert count["reads"] < 3 * 20
