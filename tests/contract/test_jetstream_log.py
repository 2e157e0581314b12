"""Streams with several partitions, with a limit, and in the hands of others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from channels.channel import WHEN_FULL, ChannelSettings
from channels.errors import ChannelFull, LogNotFound, PositionExpired, StoreError
from channels.jetstream.address import parse_address
from channels.jetstream.connection import connected
from channels.jetstream.names import stream_name
from channels.records import Mark, MoveTail
from eventing.http_binding import event_of
from tests.contract.harness import BROKER, SLOT, a_tail, claim_of, event, events, ids, read_all
from tests.contract.jetstream_harness import JetStreamHarness

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from channels.driver import Log
    from eventing.event import Event

PARTITIONS = 4


@pytest.fixture
def harness(jetstream_url: str, tmp_path: Path) -> JetStreamHarness:
    """A prefix of its own on the server."""
    return JetStreamHarness(jetstream_url, tmp_path / "data")


def keyed(number: int, key: str) -> Event:
    plain = event(number)
    head = plain.head + f"ce-partitionkey: {key}\r\n".encode()
    return event_of(head, plain.data, plain.ttl)


async def _filled(log: Log, count: int) -> dict[int, list[int]]:
    """Append events 0 to `count` - 1 with eight keys; the numbers in each partition."""
    numbers: dict[int, list[int]] = {partition: [] for partition in range(PARTITIONS)}
    for number in range(count):
        (place,) = await log.append([keyed(number, f"key-{number % 8}")])
        numbers[place.partition].append(number)
    return numbers


async def test_a_key_stays_in_its_partition(harness: JetStreamHarness) -> None:
    """Events of a key are in one partition, in order; each partition has its own, after a restart too."""
    async with harness.open() as backend:
        log = await backend.create(BROKER, {"stream.partitions": str(PARTITIONS)})
        numbers = await _filled(log, 40)
        assert sum(1 for found in numbers.values() if found) > 1
        keys = [{number % 8 for number in found} for found in numbers.values()]
        assert sum(map(len, keys)) == len(set().union(*keys)) == 8
    async with harness.open() as backend:
        again = await backend.open(BROKER)
        assert again.partitions == PARTITIONS
        for partition in range(PARTITIONS):
            assert ids(await read_all(again, 0, partition)) == numbers[partition]


async def test_events_without_a_key_go_round(harness: JetStreamHarness) -> None:
    """Every partition gets its share of events without a key."""
    async with harness.open() as backend:
        log = await backend.create(BROKER, {"stream.partitions": str(PARTITIONS)})
        places = [(await log.append(events(number)))[0].partition for number in range(8)]
        assert sorted(places) == sorted([*range(PARTITIONS)] * 2)


async def test_partitions_are_trimmed_apart(harness: JetStreamHarness) -> None:
    """Trimming one partition leaves the others whole; who reads it before that is told so, after a restart too."""
    async with harness.open() as backend:
        log = await backend.create(BROKER, {"stream.partitions": str(PARTITIONS)})
        numbers = await _filled(log, 40)
        one, other = sorted(numbers, key=lambda partition: -len(numbers[partition]))[:2]
        positions = [record.position for record in await read_all(log, 0, one)]
        assert await log.trim(one, positions[3]) == 3
        assert (await log.bounds(one)).first == positions[3]
        assert ids(await read_all(log, 0, other)) == numbers[other]
    async with harness.open() as backend:
        log = await backend.open(BROKER)
        for _ in range(2):
            with pytest.raises(PositionExpired) as expired:
                await log.read(one, positions[0], 10)
            assert expired.value.first == positions[3]
            # The second time from the memory of what was pushed.
            await log.wait(one, positions[-1] - 1)
        assert ids(await read_all(log, positions[3] - 1, one)) == numbers[one][3:]


async def _fill_up(log: Log) -> None:
    for number in range(100):
        await log.append([event(number, size=10_000)])


async def test_a_full_stream_keeps_room_for_replies(harness: JetStreamHarness) -> None:
    """Where publishers have filled their share, replies and state still find room, and after a trim events do."""
    async with harness.open() as backend:
        log = await backend.create(BROKER, {"stream.maxBytes": "200000"})
        with pytest.raises(ChannelFull, match=r"stream\.maxBytes"):
            await _fill_up(log)
        assert (await log.stats()).full > 0.9
        await log.append_settling([event(1000, size=10_000)], SLOT, await claim_of(backend), [a_tail("t1")])
        await log.trim(0, (await log.bounds(0)).next)
        await log.append([event(1001, size=10_000)])


async def test_a_reply_is_stored_once(harness: JetStreamHarness) -> None:
    """A reply to the same cause, as after a crash between reply and cursor, is the one that is there; to another it is new."""
    async with harness.open() as backend:
        log = await backend.create(BROKER, {"stream.partitions": str(PARTITIONS)})
        claim = await claim_of(backend)
        replies = [keyed(1, "a"), keyed(2, "b"), keyed(3, "a")]
        first = await log.append_settling(replies, SLOT, claim, [], ["cause-1", "cause-2", "cause-3"])
    async with harness.open() as backend:
        log = await backend.open(BROKER)
        again = await log.append_settling(replies[:2], SLOT, await claim_of(backend), [], ["cause-1", "cause-4"])
        assert again[0] == first[0]
        assert again[1].position > first[2].position
        assert first[0].partition == first[2].partition
        assert (await log.stats()).records == 4


async def test_drop_oldest(harness: JetStreamHarness) -> None:
    """A stream that drops its oldest records takes everything, and a reader is told what it missed."""
    async with harness.open(ChannelSettings(ring_bytes=0)) as backend:
        log = await backend.create(BROKER, {"stream.maxBytes": "200000", WHEN_FULL: "dropOldest"})
        for number in range(40):
            await log.append([event(number, size=10_000)])
        with pytest.raises(PositionExpired) as expired:
            await log.read(0, 3, 10)
        assert expired.value.first == (await log.bounds(0)).first > 4
        left = ids(await read_all(log, expired.value.first - 1))
        assert left == list(range(40))[-len(left) :]


@pytest.mark.parametrize("config", [{"stream.partitions": "0"}, {"stream.replicas": "many"}])
async def test_a_setting_that_cannot_be_used(harness: JetStreamHarness, config: Mapping[str, str]) -> None:
    """A setting that is no number is named."""
    async with harness.open() as backend:
        with pytest.raises(StoreError, match=next(iter(config))):
            await backend.create(BROKER, config)


async def test_settings_that_change(harness: JetStreamHarness) -> None:
    """`whenFull` and the limit count from now on; the number of partitions stays what it was."""
    async with harness.open() as backend:
        await backend.create(BROKER, {"stream.maxBytes": "200000"})
        log = await backend.create(
            BROKER, {"stream.partitions": "3", WHEN_FULL: "dropOldest", "stream.maxBytes": "50000"}
        )
        assert log.partitions == 1
        for number in range(10):
            await log.append([event(number, size=10_000)])
        assert (await log.stats()).records < 10


async def test_a_stream_that_somebody_removed(harness: JetStreamHarness) -> None:
    """An operator who removes the stream is heard: the log is not there any more, and nothing hangs."""
    async with harness.open() as backend:
        log = await backend.create(BROKER, {})
        await log.append(events(1))
        address = parse_address(harness.url)
        async with connected(address) as connection:
            await connection.api(f"STREAM.DELETE.{stream_name(address.prefix, BROKER)}")
        for call in (log.append(events(2)), log.read(0, 0, 1), log.bounds(0), log.wait(0, 5)):
            with pytest.raises(LogNotFound):
                await asyncio.wait_for(call, 10)
        with pytest.raises(LogNotFound):
            await backend.state.put(SLOT, await claim_of(backend), [MoveTail(BROKER, 0, Mark(1))])


async def test_messages_that_the_client_drops(harness: JetStreamHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where more is pushed than the client's queue holds, it drops the rest in silence; a reader that follows misses nothing."""
    monkeypatch.setattr("channels.jetstream.connection._INBOX_MESSAGES", 2)
    async with harness.open() as backend:
        log = await backend.create(BROKER, {})
        await log.append(events(0))
        await log.wait(0, 0)
        seen: list[int] = []
        after = 0

        async def follow() -> None:
            nonlocal after
            while len(seen) < 501:
                page = await log.read(0, after, 50)
                if page.next == after:
                    await log.wait(0, after)
                after = page.next
                seen.extend(ids(page.records))

        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(follow())
            for start in range(1, 501, 100):
                await log.append(events(*range(start, start + 100)))
        assert seen == list(range(501))


async def test_two_installations_do_not_share_a_prefix(harness: JetStreamHarness, tmp_path: Path) -> None:
    """Who comes with another data directory is refused, before it could remove what it does not know, and told what to do."""
    async with harness.open() as backend:
        log = await backend.create(BROKER, {})
        await log.append(events(1))
    with pytest.raises(StoreError, match="another installation"):
        async with JetStreamHarness(harness.url, tmp_path / "other").open():
            pass
    async with harness.open() as backend:
        assert list(await backend.list()) == [BROKER]
