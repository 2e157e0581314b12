"""Follows the end of one partition: a consumer pushes new records, the latest are kept in memory.

It is what wakes readers, and what spares those that keep up a request for each page. It need not be trusted with anything
else: a reader that stands before what is kept here reads the stream by position. The consumer's own sequence must rise by
exactly one: where it does not, the client has dropped messages in silence, and the follower begins anew after the last
record that it has.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING, Final

from channels.errors import ChannelError
from channels.jetstream.codec import record_of

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from channels.jetstream.connection import Connection, Inbox
    from channels.jetstream.stream import StreamRow
    from channels.records import Record

HEARTBEAT: Final = 2
"""Seconds after which the server says that there is nothing new."""

_RETRY: Final = 0.2
"""Seconds until a consumer that could not be made is tried again."""

_OVERHEAD: Final = 1024
"""Bytes that a record takes in memory besides head and data: mostly its attributes."""

_COMPACT: Final = 1024


class Memory:
    """The bytes that all followers of a backend may keep. What came first goes first, whatever its log."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._order: deque[tuple[Follower, int]] = deque()

    def added(self, follower: Follower, record: Record) -> None:
        """A record was kept: make room for it."""
        size = record.event.size + _OVERHEAD
        self._order.append((follower, size))
        self._left -= size
        while self._left < 0:
            oldest, freed = self._order.popleft()
            oldest.drop_oldest()
            self._left += freed


class Follower:
    """Everything of a partition in (`base`, `last`] is kept here."""

    def __init__(self, connection: Connection, row: StreamRow, partition: int, after: int, memory: Memory) -> None:
        self.base = after
        self.last = after
        self._connection = connection
        self._stream = row.stream
        self._subject = row.subject_of(partition)
        self._dense = row.partitions == 1
        self._memory = memory
        self._records: list[Record] = []
        self._positions: list[int] = []
        self._gone = 0
        self._news: asyncio.Event | None = None
        self._restart = asyncio.Event()
        self._inbox: Inbox | None = None
        self._expected = 0
        self._heard = 0.0
        self._ended = False

    # --- for readers ----------------------------------------------------------------------------------------------

    def take(self, after: int, limit: int, size: int) -> tuple[Record, ...]:
        """The records above `after` (not below `base`): up to `limit` of them, up to `size` bytes but one at least."""
        found: list[Record] = []
        for index in range(bisect_right(self._positions, after, self._gone), len(self._records)):
            record = self._records[index]
            size -= record.event.size
            if found and (size < 0 or len(found) == limit):
                break
            found.append(record)
        return tuple(found)

    async def reach(self, position: int) -> None:
        """Return once everything up to `position` is known here, or the follower has ended."""
        while self.last < position and not self._ended:
            # No await between the look and the wait: `_add` runs on this loop, so nothing is missed.
            if self._news is None:
                self._news = asyncio.Event()
            await self._news.wait()

    def drop_oldest(self) -> None:
        """Keep one record less."""
        self.base = max(self.base, self._positions[self._gone])
        self._gone += 1
        if self._gone >= _COMPACT and self._gone * 2 >= len(self._records):
            del self._records[: self._gone], self._positions[: self._gone]
            self._gone = 0

    def end(self) -> None:
        """Nobody may wait any more."""
        self._ended = True
        self._restart.set()
        self._wake()

    # --- its consumer ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Make the consumer. Raises ChannelError."""
        await self._consume()

    async def run(self) -> None:
        """Make the consumer again whenever it is needed, until `end`."""
        again = self._restart.set
        self._connection.on_reconnect(again)
        try:
            while not self._ended:
                await self._wait_for_trouble()
                if not self._ended:
                    await self._try_again()
        finally:
            self._connection.forget(again)
            await self._leave()

    async def _wait_for_trouble(self) -> None:
        """Return when the consumer must be made again: it was said, or the server fell silent."""
        loop = asyncio.get_running_loop()
        while not self._restart.is_set() and loop.time() < self._heard + 3 * HEARTBEAT:
            try:
                async with asyncio.timeout_at(self._heard + 3 * HEARTBEAT):
                    await self._restart.wait()
            except TimeoutError:
                continue
        self._restart.clear()

    async def _try_again(self) -> None:
        try:
            await self._consume()
        except ChannelError:
            # Readers are told by their own requests. A connection that comes back calls at once.
            await asyncio.sleep(_RETRY)
            self._restart.set()

    async def _consume(self) -> None:
        await self._leave()
        inbox: Inbox | None = None

        def receive(message: Msg) -> None:
            # What is on its way from an earlier consumer does not count.
            if self._inbox is inbox:
                self._receive(message)

        inbox = await self._connection.subscribe(receive)
        self._inbox = inbox
        self._expected = 1
        self._heard = asyncio.get_running_loop().time()
        await self._connection.api(
            f"CONSUMER.CREATE.{self._stream}",
            {
                "stream_name": self._stream,
                "config": {
                    "deliver_subject": inbox.subject,
                    "deliver_policy": "by_start_sequence",
                    "opt_start_seq": self.last + 1,
                    "filter_subject": self._subject,
                    "ack_policy": "none",
                    "mem_storage": True,
                    "num_replicas": 1,
                    "idle_heartbeat": HEARTBEAT * 1_000_000_000,
                    "inactive_threshold": 6 * HEARTBEAT * 1_000_000_000,
                },
            },
        )

    async def _leave(self) -> None:
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            await inbox.close()

    def _receive(self, message: Msg) -> None:
        self._heard = asyncio.get_running_loop().time()
        if not message.reply:
            # A heartbeat tells how far the consumer is.
            told = int((message.headers or {}).get("Nats-Last-Consumer", self._expected - 1))
            if told != self._expected - 1:
                self._restart.set()
            return
        position, number, nanoseconds = _places(message.reply)
        if number != self._expected:
            # Nothing that this consumer still sends will do.
            self._expected = 0
            self._restart.set()
            return
        self._expected += 1
        self._add(record_of(position, nanoseconds, message.headers, message.data))

    def _add(self, record: Record) -> None:
        if self._dense and record.position != self.last + 1:
            # The server removed what stood between. Whoever needs that must hear so, from the stream.
            self.base = record.position - 1
        self._records.append(record)
        self._positions.append(record.position)
        self.last = record.position
        self._memory.added(self, record)
        self._wake()

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None


def _places(reply: str) -> tuple[int, int, int]:
    """Stream sequence, consumer sequence and time of a message, from the subject that would acknowledge it.

    `$JS.ACK.STREAM.CONSUMER.TRIES.SEQUENCE.NUMBER.TIME.PENDING`, or with domain and account before the stream.
    """
    parts = reply.split(".")
    begin = 5 if len(parts) == 9 else 7
    return int(parts[begin]), int(parts[begin + 1]), int(parts[begin + 2])
