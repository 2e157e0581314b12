"""The log of one Broker: a stream, with a subject for each partition. Positions are the stream's sequences."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from zlib import crc32

from channels.channel import checked_size
from channels.errors import ChannelError, ChannelUnavailable, PositionExpired
from channels.jetstream.follower import Follower
from channels.jetstream.names import trimmed_key
from channels.jetstream.reader import StreamReader
from channels.jetstream.space import Space
from channels.jetstream.tasks import refused
from channels.jetstream.writer import StreamWriter
from channels.records import Appended, Bounds, LogStats, Page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from channels.channel import ChannelSettings
    from channels.jetstream.bucket import Bucket
    from channels.jetstream.connection import Connection
    from channels.jetstream.follower import Memory
    from channels.jetstream.state import JetStreamState
    from channels.jetstream.stream import StreamRow
    from channels.jetstream.tasks import Tasks
    from channels.records import Change, Claim, LogName, Record
    from eventing.event import Event

PAYLOAD_RESERVE: Final = 64 * 1024
"""Bytes of `max_payload` that an event leaves free: for headers of ours, and for the attempts of a parked delivery."""

_ADDED: Final = 46
"""Bytes that the server's file has for each message besides subject, header lines and data."""

_PUSH_LIMIT: Final = 0.5
"""Seconds for which a read waits for the push of what is known to be there, before it asks for it."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all logs of a backend use."""

    connection: Connection
    state: JetStreamState
    bucket: Bucket
    tasks: Tasks
    memory: Memory
    settings: ChannelSettings


class JetStreamLog:
    """Implements `channels.driver.Log`."""

    def __init__(self, row: StreamRow, shared: Shared) -> None:
        self._shared = shared
        self._reader = StreamReader(shared.connection, row, shared.settings.page_bytes)
        self._writer = StreamWriter(shared.connection)
        self._space = Space(self._reader, shared.settings.reserve_share)
        self._turn = itertools.count()
        self._known = [0] * row.partitions
        """The highest position of each partition that this process has written or read: no read may be blind to it."""
        self._floors: list[int] | None = None
        self._followers: dict[int, Follower] = {}
        self._starting = asyncio.Lock()
        self._ended: ChannelError | None = None

    @property
    def row(self) -> StreamRow:
        """The stream as it was last seen."""
        return self._reader.row

    @row.setter
    def row(self, row: StreamRow) -> None:
        self._reader.row = row

    @property
    def name(self) -> LogName:
        return self.row.name

    @property
    def incarnation(self) -> str:
        return self.row.incarnation

    @property
    def partitions(self) -> int:
        return self.row.partitions

    @property
    def max_event_bytes(self) -> int:
        return min(self._shared.settings.max_event_bytes, self._shared.connection.max_payload - PAYLOAD_RESERVE)

    # --- writing --------------------------------------------------------------------------------------------------

    def append(self, events: Sequence[Event]) -> asyncio.Future[Sequence[Appended]]:
        if self._ended is not None:
            return refused(_new(self._ended))
        # The caller may be cancelled and use its list again, while the request still stands.
        return self._shared.tasks.run(self._append(tuple(events)))

    async def _append(self, events: Sequence[Event]) -> Sequence[Appended]:
        size = checked_size(events, self.max_event_bytes)
        if not events:
            return ()
        await self._space.admit(size)
        partition = self._partition_of(events[0])
        try:
            positions = await self._writer.store(self.row.subject_of(partition), events)
        except ChannelUnavailable:
            await self._reader.confirm()
            raise
        return self._appended(partition, positions)

    async def append_settling(
        self, events: Sequence[Event], slot: int, claim: Claim, changes: Sequence[Change], causes: Sequence[str] = ()
    ) -> Sequence[Appended]:
        self._check(0)
        events = tuple(events)
        checked_size(events, self.max_event_bytes)
        # What has no cause is never taken for something else.
        names = tuple(causes) or tuple(secrets.token_hex(16) for _ in events)
        places: list[Appended] = []

        async def reply() -> None:
            # They have nothing to do with each other: each goes where its key belongs.
            partitions = [self._partition_of(event) for event in events]
            subjects = [self.row.subject_of(partition) for partition in partitions]
            positions = await self._writer.store_once(subjects, events, names)
            for partition, position in zip(partitions, positions, strict=True):
                places.extend(self._appended(partition, [position]))

        await self._shared.state.settle(slot, claim, changes, reply if events else None)
        return places

    def _appended(self, partition: int, positions: Sequence[int]) -> Sequence[Appended]:
        self._known[partition] = max(self._known[partition], *positions)
        return [Appended(partition, position) for position in positions]

    def _partition_of(self, event: Event) -> int:
        if self.partitions == 1:
            return 0
        key = event.attributes.get("partitionkey")
        return (crc32(key.encode()) if key else next(self._turn)) % self.partitions

    # --- retention ------------------------------------------------------------------------------------------------

    async def trim(self, partition: int, below: int) -> int:
        self._check(partition)
        state = await self._reader.state()
        # What is appended from now on stays, however large `below` is.
        below = min(below, state.next)
        floors = await self._known_floors()
        # A purge without a sequence is one of everything.
        if below <= max(floors[partition], state.first):
            return 0
        if self.partitions > 1:
            # Where partitions share a stream, its first sequence does not tell what was removed of one of them.
            await self._shared.bucket.put(trimmed_key(self.name, partition), str(below).encode())
        request = {"filter": self.row.subject_of(partition), "seq": below}
        answer = await self._shared.connection.api(f"STREAM.PURGE.{self.row.stream}", request)
        floors[partition] = max(floors[partition], below)
        return int(answer["purged"])

    async def _known_floors(self) -> list[int]:
        """For each partition the position below which this log was trimmed, as far as the stream does not tell."""
        if self._floors is None:
            floors = [0] * self.partitions
            if self.partitions > 1:
                for partition in range(self.partitions):
                    found = await self._shared.bucket.get(trimmed_key(self.name, partition))
                    floors[partition] = int(found.value) if found is not None else 0
            self._floors = floors
        return self._floors

    # --- reading --------------------------------------------------------------------------------------------------

    async def read(self, partition: int, after: int, limit: int) -> Page:
        self._check(partition)
        floor = (await self._known_floors())[partition]
        if after + 1 < floor:
            raise PositionExpired(floor)
        if limit < 1:
            return Page((), after)
        records = await self._followed(partition, after, limit)
        if records is None:
            records = await self._reader.page(partition, after, limit)
        if not records:
            return Page((), after)
        last = records[-1].position
        self._known[partition] = max(self._known[partition], last)
        return Page(tuple(records), last)

    async def _followed(self, partition: int, after: int, limit: int) -> Sequence[Record] | None:
        """The records above `after` in memory: none where there are none, None where that is not known."""
        follower = self._followers.get(partition)
        if follower is None or after < follower.base:
            return None
        known = self._known[partition]
        if after >= follower.last and follower.last < known:
            # It is on its way here.
            try:
                async with asyncio.timeout(_PUSH_LIMIT):
                    await follower.reach(known)
            except TimeoutError:
                return None
            if after < follower.base:
                return None
        records = follower.take(after, limit, self._shared.settings.page_bytes)
        return records if records or after >= follower.last >= known else None

    async def wait(self, partition: int, after: int) -> None:
        self._check(partition)
        follower = await self._follow(partition, after)
        await follower.reach(after + 1)

    async def _follow(self, partition: int, after: int) -> Follower:
        """The follower of a partition. Who waits stands at the end, so that is where it begins."""
        async with self._starting:
            follower = self._followers.get(partition)
            if follower is None:
                after = min(after, (await self._reader.state()).next - 1)
                follower = Follower(self._shared.connection, self.row, partition, after, self._shared.memory)
                await follower.start()
                self._check(partition)
                self._followers[partition] = follower
                self._shared.tasks.run(follower.run())
            return follower

    async def bounds(self, partition: int) -> Bounds:
        self._check(partition)
        floor = (await self._known_floors())[partition]
        state = await self._reader.state()
        first = max(floor, state.first)
        if self.partitions > 1:
            records = await self._reader.above(partition, first - 1, 1)
            first = min(records[0].position, state.next) if records else state.next
        return Bounds(first, state.next)

    async def position_at(self, partition: int, time: float) -> int:
        self._check(partition)
        end = (await self._reader.state()).next
        found = await self._reader.first_since(partition, time)
        return end if found is None else found

    async def stats(self) -> LogStats:
        self._check(0)
        state = await self._reader.state()
        limit = self.row.config["max_bytes"] * self._shared.settings.reserve_share
        # What the server adds to each message; what is left is the events', and a little for those that came in batches.
        added = state.records * (_ADDED + len(self.row.subject_of(0)))
        return LogStats(
            state.records, max(0, state.size - added), state.oldest, state.size / limit if limit > 0 else 0.0
        )

    # --- its end --------------------------------------------------------------------------------------------------

    def end(self, error: ChannelError) -> None:
        """The log was deleted or the backend closed: from now on everything raises such an error, and nobody waits."""
        self._ended = error
        for follower in self._followers.values():
            follower.end()

    def _check(self, partition: int) -> None:
        if self._ended is not None:
            raise _new(self._ended)
        if not 0 <= partition < self.partitions:
            raise ValueError(f"the log of {self.name} has partitions 0 to {self.partitions - 1}, not {partition}")


def _new(error: ChannelError) -> ChannelError:
    """A new one each time: an exception that is raised in two tasks mixes up their tracebacks."""
    return type(error)(*error.args)
