"""The log of one Broker: a stream, with a subject for each partition. Positions are the stream's sequences."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Final
from zlib import crc32

from channels.channel import checked_size
from channels.errors import AppendAmbiguous, ChannelError, ChannelUnavailable, LogNotFound, PositionExpired
from channels.jetstream.codec import headers_of, nanoseconds_of, record_of
from channels.jetstream.follower import Follower
from channels.jetstream.names import trimmed_key
from channels.jetstream.stream import row_of
from channels.jetstream.tasks import refused
from channels.records import Appended, Bounds, LogStats, Page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

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

_BATCH: Final = 900
_BATCH_BYTES: Final = 8 << 20
"""Events, and bytes of them, in one atomic batch. The server takes 1000 messages."""

_PAGE_LIMIT: Final = 1000
_NEAR: Final = 16
"""Records that are read together while the first of a time is looked for."""

_ADDED: Final = 46
"""Bytes that the server's file has for each message besides subject, header lines and data."""

_PUSH_LIMIT: Final = 0.5
"""Seconds for which a read waits for the push of what this process has appended, before it asks for it."""


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
        self.row = row
        self._connection = shared.connection
        self._state = shared.state
        self._bucket = shared.bucket
        self._tasks = shared.tasks
        self._memory = shared.memory
        self._settings = shared.settings
        self._batches = asyncio.Lock()
        self._turn = itertools.count()
        self._acknowledged = [0] * row.partitions
        self._floors: list[int] | None = None
        self._followers: dict[int, Follower] = {}
        self._starting = asyncio.Lock()
        self._ended: ChannelError | None = None

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
        return min(self._settings.max_event_bytes, self._connection.max_payload - PAYLOAD_RESERVE)

    # --- writing --------------------------------------------------------------------------------------------------

    def append(self, events: Sequence[Event]) -> asyncio.Future[Sequence[Appended]]:
        # The caller may be cancelled and use its list again, while the request still stands.
        if self._ended is not None:
            return refused(self._new_end(self._ended))
        return self._tasks.run(self._append(tuple(events)))

    async def _append(self, events: Sequence[Event]) -> Sequence[Appended]:
        checked_size(events, self.max_event_bytes)
        if not events:
            return ()
        partition = self._partition_of(events[0])
        try:
            positions = await self._store(partition, events)
        except ChannelUnavailable:
            await self._confirm()
            raise
        return self._appended(partition, positions)

    async def append_settling(
        self, events: Sequence[Event], slot: int, claim: Claim, changes: Sequence[Change]
    ) -> Sequence[Appended]:
        self._check(0)
        events = tuple(events)
        checked_size(events, self.max_event_bytes)
        places: list[Appended] = []

        async def reply() -> None:
            # All go to one partition.
            partition = self._partition_of(events[0])
            places.extend(self._appended(partition, await self._store_once(partition, events)))

        await self._state.settle(slot, claim, changes, reply if events else None)
        return places

    async def _store(self, partition: int, events: Sequence[Event]) -> Sequence[int]:
        """The positions of events that were stored in one piece."""
        if len(events) == 1:
            (event,) = events
            return [await (await self._connection.publish(self._subject(partition), event.data, headers_of(event)))]
        positions: list[int] = []
        for batch in _batches(events):
            try:
                positions += await self._store_batch(partition, batch)
            except ChannelError as error:
                if positions:
                    raise AppendAmbiguous(f"only the first {len(positions)} of {len(events)} are stored") from error
                raise
        return positions

    async def _store_batch(self, partition: int, events: Sequence[Event]) -> Sequence[int]:
        subject = self._subject(partition)
        batch = secrets.token_hex(8)
        # One after the other: the server takes 50 batches of a stream at a time.
        async with self._batches:
            for number, event in enumerate(events[:-1], 1):
                headers = headers_of(event) | {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
                await self._connection.send(subject, event.data, headers)
            commit = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(len(events)), "Nats-Batch-Commit": "1"}
            last = await self._connection.store(subject, events[-1].data, headers_of(events[-1]) | commit)
        return range(last - len(events) + 1, last + 1)

    async def _store_once(self, partition: int, events: Sequence[Event]) -> Sequence[int]:
        """The positions of replies; one that was stored before, and not acknowledged, is not stored again."""
        subject = self._subject(partition)
        acks = []
        for number, event in enumerate(events):
            known = blake2b(event.head + event.data, digest_size=16).hexdigest()
            earlier = sum(event == other for other in events[:number])
            headers = headers_of(event) | {"Nats-Msg-Id": f"{known}.{earlier}"}
            acks.append(await self._connection.publish(subject, event.data, headers))
        return await asyncio.gather(*acks)

    def _appended(self, partition: int, positions: Sequence[int]) -> Sequence[Appended]:
        self._acknowledged[partition] = max(self._acknowledged[partition], *positions)
        return [Appended(partition, position) for position in positions]

    def _partition_of(self, event: Event) -> int:
        if self.partitions == 1:
            return 0
        key = event.attributes.get("partitionkey")
        return (crc32(key.encode()) if key else next(self._turn)) % self.partitions

    def _subject(self, partition: int) -> str:
        return f"{self.row.subject}.{partition}"

    # --- retention ------------------------------------------------------------------------------------------------

    async def trim(self, partition: int, below: int) -> int:
        self._check(partition)
        state = await self._stream_state()
        # What is appended from now on stays, however large `below` is.
        below = min(below, _next(state))
        floors = await self._known_floors()
        # A purge without a sequence is one of everything.
        if below <= max(floors[partition], _first(state)):
            return 0
        if self.partitions > 1:
            # Where partitions share a stream, its first sequence does not tell what was removed of one of them.
            await self._bucket.put(trimmed_key(self.name, partition), str(below).encode())
        answer = await self._connection.api(
            f"STREAM.PURGE.{self.row.stream}", {"filter": self._subject(partition), "seq": below}
        )
        floors[partition] = max(floors[partition], below)
        return int(answer["purged"])

    async def _known_floors(self) -> list[int]:
        """For each partition the position below which this log was trimmed, as far as the stream does not tell."""
        if self._floors is None:
            floors = [0] * self.partitions
            if self.partitions > 1:
                for partition in range(self.partitions):
                    found = await self._bucket.get(trimmed_key(self.name, partition))
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
        follower = self._followers.get(partition)
        if follower is not None and after >= follower.base:
            records = await self._followed(follower, partition, after, limit)
            if records:
                return Page(records, records[-1].position)
            if after >= follower.last >= self._acknowledged[partition]:
                return Page((), after)
        return await self._fetch(partition, after, limit)

    async def _followed(self, follower: Follower, partition: int, after: int, limit: int) -> tuple[Record, ...]:
        acknowledged = self._acknowledged[partition]
        if after >= follower.last and follower.last < acknowledged:
            # What this process appended is on its way here.
            try:
                async with asyncio.timeout(_PUSH_LIMIT):
                    await follower.reach(acknowledged)
            except TimeoutError:
                return ()
        # It may have dropped what the reader needs meanwhile.
        return follower.take(after, limit, self._settings.page_bytes) if after >= follower.base else ()

    async def _fetch(self, partition: int, after: int, limit: int) -> Page:
        request = {
            "seq": max(after + 1, 1),
            "next_by_subj": self._subject(partition),
            "batch": min(limit, _PAGE_LIMIT),
            "max_bytes": self._settings.page_bytes,
        }
        records = await self._get(request)
        gap = _gap(after, records)
        if (gap is not None or not records) and (self.partitions == 1 or self.row.may_skip):
            first = _first(await self._stream_state())
            where = gap if gap is not None else after
            if first > where + 1:
                # What stands before the gap is good.
                records = [record for record in records if record.position <= where]
                if not records:
                    raise PositionExpired(first)
        return Page(tuple(records), records[-1].position if records else after)

    async def _get(self, request: dict[str, object]) -> list[Record]:
        try:
            messages = await self._connection.get(self.row.stream, request)
        except ChannelUnavailable:
            await self._confirm()
            raise
        found = []
        for message in messages:
            headers = message.headers or {}
            time = nanoseconds_of(headers["Nats-Time-Stamp"])
            found.append(record_of(int(headers["Nats-Sequence"]), time, headers, message.data))
        return found

    async def wait(self, partition: int, after: int) -> None:
        self._check(partition)
        follower = await self._follow(partition, after)
        await follower.reach(after + 1)

    async def _follow(self, partition: int, after: int) -> Follower:
        """The follower of a partition. Who waits stands at the end, so that is where it begins."""
        async with self._starting:
            follower = self._followers.get(partition)
            if follower is None:
                end = _next(await self._stream_state()) - 1
                follower = Follower(
                    self._connection, self.row.stream, self._subject(partition), min(after, end), self._memory
                )
                await follower.start()
                self._check(partition)
                self._followers[partition] = follower
                self._tasks.run(follower.run())
            return follower

    async def bounds(self, partition: int) -> Bounds:
        self._check(partition)
        floor = (await self._known_floors())[partition]
        state = await self._stream_state()
        end = _next(state)
        first = max(floor, _first(state))
        if self.partitions > 1:
            records = await self._get({"seq": first, "next_by_subj": self._subject(partition), "batch": 1})
            first = min(records[0].position, end) if records else end
        return Bounds(first, end)

    async def position_at(self, partition: int, time: float) -> int:
        self._check(partition)
        # A time that is a fraction of a second is rounded: begin a little earlier and look.
        begin = datetime.fromtimestamp(max(time - 1e-3, 0.0), UTC)
        request: dict[str, object] = {"start_time": begin.isoformat().replace("+00:00", "Z")}
        while True:
            records = await self._get({**request, "next_by_subj": self._subject(partition), "batch": _NEAR})
            for record in records:
                if record.time >= time:
                    return record.position
            if not records:
                return (await self.bounds(partition)).next
            request = {"seq": records[-1].position + 1}

    async def stats(self) -> LogStats:
        self._check(0)
        state = await self._stream_state()
        limit = self.row.config["max_bytes"]
        full = state["bytes"] / limit if limit > 0 else 0.0
        oldest = nanoseconds_of(state["first_ts"]) / 1e9 if state["messages"] else None
        # What the server adds to each message; what is left is the events', and a little for those that came in batches.
        added = state["messages"] * (_ADDED + len(self._subject(0)))
        return LogStats(state["messages"], max(0, state["bytes"] - added), oldest, full)

    async def _stream_state(self) -> dict[str, Any]:
        answer = await self._connection.api(f"STREAM.INFO.{self.row.stream}")
        if row_of(answer["config"]).incarnation != self.incarnation:
            raise LogNotFound(f"the stream {self.row.stream} was removed and made again")
        state: dict[str, Any] = answer["state"]
        return state

    async def _confirm(self) -> None:
        """Something had no answer: raise LogNotFound where that is since the stream is gone. Raises ChannelError."""
        await self._stream_state()

    # --- its end --------------------------------------------------------------------------------------------------

    def end(self, error: ChannelError) -> None:
        """The log was deleted or the backend closed: from now on everything raises such an error, and nobody waits."""
        self._ended = error
        for follower in self._followers.values():
            follower.end()

    def _check(self, partition: int) -> None:
        if self._ended is not None:
            raise self._new_end(self._ended)
        if not 0 <= partition < self.partitions:
            raise ValueError(f"the log of {self.name} has partitions 0 to {self.partitions - 1}, not {partition}")

    @staticmethod
    def _new_end(error: ChannelError) -> ChannelError:
        # A new one each time: an exception that is raised in two tasks mixes up their tracebacks.
        return type(error)(*error.args)


def _batches(events: Sequence[Event]) -> list[Sequence[Event]]:
    """The events in the order that they have, in parts that fit an atomic batch."""
    batches: list[list[Event]] = [[]]
    size = 0
    for event in events:
        if batches[-1] and (len(batches[-1]) == _BATCH or size + event.size > _BATCH_BYTES):
            batches.append([])
            size = 0
        batches[-1].append(event)
        size += event.size
    return list(batches)


def _gap(after: int, records: Sequence[Record]) -> int | None:
    """The position behind which the first positions are missing, None where there is no gap."""
    for record in records:
        if record.position != after + 1:
            return after
        after = record.position
    return None


def _first(state: dict[str, Any]) -> int:
    return max(int(state["first_seq"]), 1)


def _next(state: dict[str, Any]) -> int:
    return int(state["last_seq"]) + 1
