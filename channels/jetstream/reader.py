"""Reads a stream by position, from whatever replica answers, and never less than the stream had when it was asked."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from channels.errors import ChannelUnavailable, LogNotFound, PositionExpired
from channels.jetstream.codec import nanoseconds_of, record_of
from channels.jetstream.errors import NoMessage
from channels.jetstream.stream import row_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from channels.jetstream.connection import Connection
    from channels.jetstream.stream import StreamRow
    from channels.records import Record

_MOST: Final = 1000
"""Records in one answer."""

_NEAR: Final = 16
"""Records that are read together while the first of a time is looked for."""

_ASKED: Final = 50
_BEHIND: Final = 0.02
"""How often replicas that are behind are asked, and the seconds between."""


class Newest(NamedTuple):
    """Where the last record of a partition stands, and when it was stored; zeros where there is none."""

    position: int
    time: float


class StreamState(NamedTuple):
    """What the leader says of a stream; `size` in bytes with all that the server adds, `oldest` in Unix s."""

    first: int
    next: int
    records: int
    size: int
    oldest: float | None


class StreamReader:
    """Reads the stream of one log, up to `page_bytes` at a time. Its methods raise ChannelError."""

    def __init__(self, connection: Connection, row: StreamRow, page_bytes: int) -> None:
        self.row = row
        self._connection = connection
        self._page_bytes = page_bytes

    async def state(self) -> StreamState:
        """How the stream is now. Raises LogNotFound where it is gone, or another one has its name."""
        answer = await self._connection.api(f"STREAM.INFO.{self.row.stream}")
        if row_of(answer["config"]).incarnation != self.row.incarnation:
            raise LogNotFound(f"the stream {self.row.stream} was removed and made again")
        state = answer["state"]
        oldest = nanoseconds_of(state["first_ts"]) / 1e9 if state["messages"] else None
        return StreamState(
            max(int(state["first_seq"]), 1), int(state["last_seq"]) + 1, state["messages"], state["bytes"], oldest
        )

    async def page(self, partition: int, after: int, limit: int) -> Sequence[Record]:
        """The records above `after`, up to a limit. Raises PositionExpired where the server removed one of them."""
        records = await self.above(partition, after, limit)
        # Where partitions share the stream gaps mean nothing, unless the server removes by itself.
        if self.row.partitions > 1 and not self.row.may_skip:
            return records
        gap = _gap(after, records)
        if records and gap is None:
            return records
        before = after if gap is None else gap
        first = (await self.state()).first
        if first <= before + 1:
            return records
        # What stands before the gap is good.
        good = [record for record in records if record.position <= before]
        if not good:
            raise PositionExpired(first)
        return good

    async def above(self, partition: int, after: int, limit: int) -> Sequence[Record]:
        """As `page`, whatever was removed."""
        request = {"seq": max(after + 1, 1), "batch": min(limit, _MOST), "max_bytes": self._page_bytes}
        if self.row.replicas == 1:
            return await self._get(partition, request)
        # A replica that is behind ends too early, and who reads would take what follows for settled.
        newest = (await self._newest(partition)).position
        for _ in range(_ASKED):
            records = await self._get(partition, request)
            last = records[-1].position if records else after
            size = sum(record.event.size for record in records)
            if last >= newest or len(records) == request["batch"] or size >= self._page_bytes:
                return records
            await asyncio.sleep(_BEHIND)
        raise ChannelUnavailable(f"a replica of {self.row.stream} is behind")

    async def first_since(self, partition: int, time: float) -> int | None:
        """The position of the first record that was stored at `time` (Unix s) or later."""
        # A time that is a fraction of a second is rounded: begin a little earlier and look.
        begin = datetime.fromtimestamp(max(time - 1e-3, 0.0), UTC).isoformat().replace("+00:00", "Z")
        records = await self._get(partition, {"start_time": begin, "batch": _NEAR})
        if not records and self.row.replicas > 1 and (await self._newest(partition)).time >= time:
            raise ChannelUnavailable(f"a replica of {self.row.stream} is behind")
        while records:
            for record in records:
                if record.time >= time:
                    return record.position
            records = await self.above(partition, records[-1].position, _NEAR)
        return None

    async def confirm(self) -> None:
        """Something had no answer: raise LogNotFound where that is since the stream is gone."""
        await self.state()

    async def _newest(self, partition: int) -> Newest:
        request = {"last_by_subj": self.row.subject_of(partition)}
        try:
            message = (await self._connection.api(f"STREAM.MSG.GET.{self.row.stream}", request))["message"]
        except NoMessage:
            return Newest(0, 0.0)
        return Newest(int(message["seq"]), nanoseconds_of(message["time"]) / 1e9)

    async def _get(self, partition: int, request: dict[str, Any]) -> Sequence[Record]:
        request = {**request, "next_by_subj": self.row.subject_of(partition)}
        try:
            messages = await self._connection.get(self.row.stream, request)
        except ChannelUnavailable:
            await self.confirm()
            raise
        found = []
        for message in messages:
            headers = message.headers or {}
            time = nanoseconds_of(headers["Nats-Time-Stamp"])
            found.append(record_of(int(headers["Nats-Sequence"]), time, headers, message.data))
        return found


def _gap(after: int, records: Sequence[Record]) -> int | None:
    """The position behind which the first positions are missing, None where there is no gap."""
    for record in records:
        if record.position != after + 1:
            return after
        after = record.position
    return None
