"""Logs: what goes in comes out, in order, and nobody sleeps past it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from channels.channel import ChannelSettings
from channels.errors import EventTooLarge, PositionExpired
from channels.records import Appended, Bounds, LogStats
from tests.contract.harness import BROKER, OTHER, event, events, fill, ids, read_all

if TYPE_CHECKING:
    from channels.driver import Backend, Log
    from tests.contract.harness import Harness


async def test_a_new_log_is_empty(log: Log) -> None:
    """A new log has equal bounds, no records and no bytes."""
    bounds = await log.bounds(0)
    assert bounds.first == bounds.next
    assert (await log.read(0, bounds.next - 1, 10)).records == ()
    stats = await log.stats()
    assert stats == LogStats(0, 0, None, stats.full)
    assert 0.0 <= stats.full < 0.5


async def test_what_was_appended_is_read(log: Log) -> None:
    """Events come back byte for byte, with their ttl, at the positions that the append told."""
    sent = [event(1, size=0), event(2, ttl=3), event(3, size=100_000)]
    places = await log.append(sent)
    records = await read_all(log, 0)
    assert [record.event for record in records] == sent
    assert [Appended(0, record.position) for record in records] == list(places)


async def test_positions_rise(log: Log) -> None:
    """Each append stands behind the one before it."""
    positions = [(await log.append(events(number)))[0].position for number in range(5)]
    assert positions == sorted(set(positions))
    assert ids(await read_all(log, positions[1])) == [2, 3, 4]


async def test_an_append_of_nothing(log: Log) -> None:
    """Appending no events stores none."""
    assert list(await log.append([])) == []
    assert (await log.stats()).records == 0


async def test_a_read_is_limited_and_leads_on(log: Log) -> None:
    """A read returns no more than its limit, and its `next` leads to the rest."""
    positions = await fill(log, 5)
    page = await log.read(0, positions[0], 2)
    assert ids(page.records) == [1, 2]
    assert page.next >= positions[2]
    assert ids((await log.read(0, page.next, 10)).records) == [3, 4]


async def test_a_read_past_the_end_is_empty(log: Log) -> None:
    """A read at or past the end returns nothing and stays where it is."""
    last = (await fill(log, 2))[-1]
    for after in (last, last + 1000):
        page = await log.read(0, after, 10)
        assert (page.records, page.next) == ((), after)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(ChannelSettings(), id="all in memory"),
        pytest.param(ChannelSettings(ring_bytes=8_000), id="the newest in memory"),
        pytest.param(ChannelSettings(ring_bytes=0), id="nothing in memory"),
        pytest.param(ChannelSettings(ring_bytes=0, page_bytes=1), id="one record a page"),
    ],
)
async def test_memory_makes_no_difference(harness: Harness, settings: ChannelSettings) -> None:
    """Reads give the same from memory and from the store, across the border too."""
    async with harness.open(settings) as backend:
        log, other = await backend.create(BROKER, {}), await backend.create(OTHER, {})
        for number in range(0, 40, 4):
            await log.append(events(*range(number, number + 4)))
            await other.append(events(number))
        first = (await log.bounds(0)).first
        assert ids(await read_all(log, first - 1)) == list(range(40))
        assert ids(await read_all(other, (await other.bounds(0)).first - 1)) == list(range(0, 40, 4))


async def test_logs_are_apart(backend: Backend, log: Log) -> None:
    """The records of one log are never seen in another, whatever the positions."""
    other = await backend.create(OTHER, {})
    await log.append(events(1))
    await other.append(events(2))
    await log.append(events(3))
    assert ids(await read_all(log, 0)) == [1, 3]
    assert ids(await read_all(other, 0)) == [2]


async def test_concurrent_appends(log: Log) -> None:
    """Appends of many tasks are all stored, once, each batch in one piece."""
    batches = [events(*range(start, start + 3)) for start in range(0, 300, 3)]
    places = await asyncio.gather(*(log.append(batch) for batch in batches))
    records = {record.position: record for record in await read_all(log, 0)}
    assert sorted(ids(list(records.values()))) == list(range(300))
    for batch, told in zip(batches, places, strict=True):
        assert [records[place.position].event for place in told] == batch
        between = [position for position in records if told[0].position <= position <= told[-1].position]
        assert len(between) == 3


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_a_cancelled_append_is_all_or_nothing(log: Log, turns: int) -> None:
    """An append that is cancelled stored every one of its events, or none, whatever its caller does with the list."""
    before = asyncio.ensure_future(log.append(events(1)))
    batch = events(2, 3, 4)
    task = asyncio.ensure_future(log.append(batch))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    batch.clear()
    await before
    await log.append(events(5))
    assert ids(await read_all(log, 0)) in ([1, 5], [1, 2, 3, 4, 5])


async def test_an_event_that_never_fits(harness: Harness) -> None:
    """An event above the limit is refused with both sizes, and nothing of its batch is stored."""
    async with harness.open(ChannelSettings(max_event_bytes=1000)) as backend:
        log = await backend.create(BROKER, {})
        assert log.max_event_bytes <= 1000
        large = event(2, size=log.max_event_bytes)
        with pytest.raises(EventTooLarge) as refused:
            await log.append([event(1), large])
        assert (refused.value.size, refused.value.limit) == (large.size, log.max_event_bytes)
        assert (await log.stats()).records == 0
        fits = event(3, size=log.max_event_bytes - event(3, size=0).size)
        await log.append([fits])
        assert (await read_all(log, 0))[0].event == fits


async def test_wait_returns_for_what_is_there(log: Log) -> None:
    """Waiting for a record that is there already does not wait."""
    (position,) = await fill(log, 1)
    await log.wait(0, position - 1)


async def test_wait_misses_nothing(log: Log) -> None:
    """Readers that alternate read and wait see every event, however appends fall between the two."""

    async def follow() -> list[int]:
        seen: list[int] = []
        after = (await log.bounds(0)).first - 1
        while len(seen) < 200:
            page = await log.read(0, after, 3)
            if page.next == after:
                await log.wait(0, after)
            after = page.next
            seen += ids(page.records)
        return seen

    async with asyncio.TaskGroup() as group:
        followers = [group.create_task(follow()) for _ in range(2)]
        for number in range(200):
            await log.append(events(number))
    assert [follower.result() for follower in followers] == [list(range(200))] * 2


async def test_a_reader_sees_what_was_acknowledged(log: Log) -> None:
    """What an append has told is in the next read, by one who follows the log too."""
    (after,) = await fill(log, 1)
    await log.wait(0, after - 1)
    for number in range(100):
        (place,) = await log.append(events(number))
        page = await log.read(0, after, 10)
        assert ids(page.records) == [number]
        after = place.position


async def test_a_cancelled_waiter_disturbs_nobody(log: Log) -> None:
    """When one of two waiters is cancelled, the other still gets its news."""
    gone, stays = asyncio.create_task(log.wait(0, 0)), asyncio.create_task(log.wait(0, 0))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    await log.append(events(1))
    await stays


async def test_trim(log: Log) -> None:
    """Trimming removes what is below, moves the first position and never the next one."""
    positions = await fill(log, 10)
    end = (await log.bounds(0)).next
    assert await log.trim(0, positions[4]) == 4
    assert await log.bounds(0) == Bounds(positions[4], end)
    assert ids(await read_all(log, positions[4] - 1)) == [4, 5, 6, 7, 8, 9]
    assert await log.trim(0, positions[4]) == 0
    assert await log.trim(0, positions[2]) == 0


async def test_a_read_before_what_was_trimmed(log: Log) -> None:
    """A reader whose next record was trimmed is told where the log begins; one that stands behind them goes on."""
    positions = await fill(log, 6)
    await log.trim(0, positions[3])
    for after in (positions[0] - 1, positions[1]):
        with pytest.raises(PositionExpired) as expired:
            await log.read(0, after, 10)
        assert expired.value.first == positions[3]
    assert ids((await log.read(0, positions[3] - 1, 10)).records) == [3, 4, 5]
    assert ids((await log.read(0, positions[3], 10)).records) == [4, 5]


async def test_trimming_everything(harness: Harness) -> None:
    """A log that was trimmed empty goes on behind its last position, after a restart too."""
    async with harness.open() as backend:
        log = await backend.create(BROKER, {})
        last = (await fill(log, 4))[-1]
        assert await log.trim(0, last + 100) == 4
        emptied = await log.bounds(0)
        assert emptied == Bounds(last + 1, last + 1)
        with pytest.raises(PositionExpired):
            await log.read(0, last - 2, 1)
        assert (await log.read(0, last, 1)).records == ()
    async with harness.open() as backend:
        log = await backend.open(BROKER)
        assert await log.bounds(0) == emptied
        (place,) = await log.append(events(9))
        assert place.position > last


async def test_appends_and_reads_during_a_trim(harness: Harness) -> None:
    """A trim of many records holds up neither appends nor reads behind it."""
    async with harness.open(ChannelSettings(ring_bytes=0)) as backend:
        log = await backend.create(BROKER, {})
        positions = await fill(log, 3500)
        trim = asyncio.create_task(log.trim(0, positions[3400]))
        while not trim.done():
            await log.append(events(1))
            assert (await log.read(0, positions[3400], 2)).records[0].position == positions[3401]
        assert await trim == 3400
        assert (await log.bounds(0)).first == positions[3400]


async def test_position_at(log: Log) -> None:
    """A time leads to the first record that was stored then or later."""
    positions = await fill(log, 3)
    records = await read_all(log, 0)
    assert await log.position_at(0, 0.0) == positions[0]
    assert await log.position_at(0, records[0].time) == positions[0]
    assert await log.position_at(0, time.time() + 1000) == (await log.bounds(0)).next
    await log.trim(0, positions[1])
    assert await log.position_at(0, 0.0) == positions[1]


async def test_position_at_between_records(log: Log) -> None:
    """A time between two appends leads to the later one."""
    await log.append(events(0))
    early = (await read_all(log, 0))[-1]
    late = early
    while late.time == early.time:
        await log.append(events(1))
        late = (await read_all(log, late.position))[-1]
    assert await log.position_at(0, (early.time + late.time) / 2) == late.position


async def test_stats(log: Log) -> None:
    """Records, bytes and the oldest time are those of what is still there."""
    await log.append([event(number, size=number) for number in range(4, 9)])
    records = await read_all(log, 0)
    await log.trim(0, records[2].position)
    left = records[2:]
    stats = await log.stats()
    assert stats == LogStats(3, stats.bytes, left[0].time, stats.full)
    # A backend may count what it adds to each.
    assert 0 <= stats.bytes - sum(record.event.size for record in left) <= 200 * len(left)


async def test_records_have_a_time(log: Log) -> None:
    """The time of a record is when it was stored."""
    before = time.time()
    await fill(log, 1)
    (record,) = await read_all(log, 0)
    assert before <= record.time <= time.time()
