"""Making, finding and removing logs, and what outlives a restart or a kill."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from channels.errors import ChannelUnavailable, LogNotFound
from channels.records import DeliveryState, LogName, SlotState, slot_of
from tests.contract.harness import (
    BROKER,
    OTHER,
    SLOT,
    a_cursor,
    a_delivery,
    a_start,
    a_tail,
    claim_of,
    events,
    fill,
    ids,
    put,
    read_all,
)

if TYPE_CHECKING:
    from channels.driver import Backend, Log
    from tests.contract.harness import Harness


async def test_create_is_idempotent(backend: Backend, log: Log) -> None:
    """Creating a log that exists gives that log."""
    await fill(log, 1)
    again = await backend.create(BROKER, {})
    assert (again.name, again.incarnation) == (BROKER, log.incarnation)
    assert ids(await read_all(again, 0)) == [0]


async def test_concurrent_creates_make_one_log(backend: Backend) -> None:
    """Two tasks that create the same log get the same one."""
    one, two = await asyncio.gather(backend.create(BROKER, {}), backend.create(BROKER, {}))
    assert one.incarnation == two.incarnation
    assert list(await backend.list()) == [BROKER]


async def test_open_and_list(backend: Backend, log: Log) -> None:
    """Logs are found by their names; one that was never made is not."""
    await backend.create(OTHER, {})
    assert set(await backend.list()) == {BROKER, OTHER}
    assert (await backend.open(BROKER)).incarnation == log.incarnation
    with pytest.raises(LogNotFound):
        await backend.open(LogName("shop", "default", "another uid"))


async def test_a_broker_made_again_gets_a_fresh_log(backend: Backend, log: Log) -> None:
    """The same name with another owner is another log."""
    await fill(log, 2)
    fresh = await backend.create(BROKER._replace(owner="uid-9"), {})
    assert fresh.incarnation != log.incarnation
    assert await read_all(fresh, (await fresh.bounds(0)).first - 1) == []


async def test_delete(backend: Backend, log: Log) -> None:
    """A deleted log is gone with its records and its state; one made again is another incarnation, and empty."""
    await fill(log, 3)
    await backend.state.put_start(a_start("t1", log))
    await put(backend, a_tail("t1"), a_cursor("t1"))
    await backend.delete(BROKER)
    assert list(await backend.list()) == []
    with pytest.raises(LogNotFound):
        await backend.open(BROKER)
    with pytest.raises(LogNotFound):
        await log.append(events(1))
    again = await backend.create(BROKER, {})
    assert again.incarnation != log.incarnation
    assert await read_all(again, (await again.bounds(0)).first - 1) == []
    assert await backend.state.load(SLOT) == SlotState((), (), ())
    assert await backend.state.get_start("t1", BROKER) is None


async def test_delete_keeps_deliveries_as_dead(backend: Backend, log: Log) -> None:
    """What a deleted log's Triggers still owed is dead, not lost; other logs' deliveries are left alone."""
    other = a_delivery(2, log=OTHER)
    slot = slot_of(OTHER, 0)
    await put(backend, a_delivery(1))
    await backend.state.put(slot, (await backend.state.claims())[slot], [other])
    await backend.delete(log.name)
    kept = await backend.state.get_delivery(a_delivery(1).id)
    assert kept is not None
    assert kept.state is DeliveryState.DEAD
    assert kept.reason
    assert await backend.state.get_delivery(other.id) == other


async def test_deleting_what_is_not_there(backend: Backend) -> None:
    """Deleting a log that does not exist is nothing."""
    await backend.delete(BROKER)


async def test_who_waits_for_a_deleted_log_is_woken(backend: Backend, log: Log) -> None:
    """A reader that waits for news of a log does not wait for ever when it is deleted."""
    waiting = asyncio.create_task(log.wait(0, (await log.bounds(0)).next))
    await asyncio.sleep(0)
    await backend.delete(BROKER)
    await asyncio.gather(waiting, return_exceptions=True)
    with pytest.raises(LogNotFound):
        await log.read(0, 0, 1)


async def test_a_large_log_is_deleted(harness: Harness) -> None:
    """Removing thousands of records holds up nobody, and a restart in the middle of it changes nothing."""
    async with harness.open() as backend:
        log = await backend.create(BROKER, {})
        await fill(log, 4000)
        await backend.delete(BROKER)
        other = await backend.create(OTHER, {})
        await fill(other, 1)
    async with harness.open() as backend:
        assert list(await backend.list()) == [OTHER]
        assert ids(await read_all(await backend.open(OTHER), 0)) == [0]


@pytest.mark.parametrize("end", ["closed", "killed"])
async def test_all_is_there_after_the_end(harness: Harness, end: str) -> None:
    """What was acknowledged is there after a restart and after a kill: records, positions, state, incarnation."""
    async with harness.open() as backend:
        log = await backend.create(BROKER, {})
        await fill(log, 300)
        start = await backend.state.put_start(a_start("t1", log))
        await put(backend, a_tail("t1", "t2"), a_cursor("t3", 4, 8), a_delivery(4))
        records, bounds, state = await read_all(log, 0), await log.bounds(0), await backend.state.load(SLOT)
        incarnation, stats = log.incarnation, await log.stats()
        survivor = harness.killed() if end == "killed" else harness
    async with survivor.open() as backend:
        log = await backend.open(BROKER)
        assert await read_all(log, records[0].position - 1) == records
        assert (await log.bounds(0), log.incarnation, await log.stats()) == (bounds, incarnation, stats)
        assert await backend.state.load(SLOT) == state
        assert await backend.state.get_start("t1", BROKER) == start
        assert await backend.state.get_delivery(a_delivery(4).id) == a_delivery(4)


async def test_leaving_finishes_what_waits(harness: Harness) -> None:
    """An append that was handed over before the backend closes is stored."""
    async with harness.open() as backend:
        log = await backend.create(BROKER, {})
        appends = [asyncio.ensure_future(log.append(events(number))) for number in range(20)]
        await asyncio.sleep(0)
    await asyncio.gather(*appends)
    async with harness.open() as backend:
        assert len(await read_all(await backend.open(BROKER), 0)) == 20


async def test_a_closed_backend_refuses(harness: Harness) -> None:
    """Nothing hangs on a backend that was left: every call says that it is closed, who waited is woken."""
    async with harness.open() as backend:
        log = await backend.create(BROKER, {})
        await fill(log, 1)
        waiting = asyncio.create_task(log.wait(0, 1_000_000))
        claim = await claim_of(backend)
        await asyncio.sleep(0)
    await asyncio.gather(waiting, return_exceptions=True)
    for call in (
        log.append(events(1)),
        log.read(0, 0, 1),
        log.wait(0, 1_000_000),
        log.stats(),
        backend.state.load(SLOT),
        backend.state.put(SLOT, claim, []),
        backend.create(OTHER, {}),
    ):
        with pytest.raises(ChannelUnavailable):
            await call
