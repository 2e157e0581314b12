"""Stores events in a stream: one by one with many in flight, several in one piece, replies once."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final

from channels.errors import AppendAmbiguous, ChannelError
from channels.jetstream.codec import headers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from channels.jetstream.connection import Connection
    from eventing.event import Event

_MOST: Final = 900
_MOST_BYTES: Final = 8 << 20
"""Events, and bytes of them, in one atomic batch. The server takes 1000 messages."""


class StreamWriter:
    """Writes to the stream of one log. Its methods return the positions, and raise ChannelError."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._batches = asyncio.Lock()

    async def store(self, subject: str, events: Sequence[Event]) -> Sequence[int]:
        """Store events in one piece."""
        if len(events) == 1:
            (event,) = events
            return [await self._connection.store(subject, event.data, headers_of(event))]
        positions: list[int] = []
        for batch in _batches(events):
            try:
                positions += await self._store_batch(subject, batch)
            except ChannelError as error:
                if positions:
                    raise AppendAmbiguous(f"only the first {len(positions)} of {len(events)} are stored") from error
                raise
        return positions

    async def _store_batch(self, subject: str, events: Sequence[Event]) -> Sequence[int]:
        batch = secrets.token_hex(8)
        # One after the other: the server takes 50 batches of a stream at a time.
        async with self._batches:
            for number, event in enumerate(events[:-1], 1):
                headers = headers_of(event) | {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
                await self._connection.send(subject, event.data, headers)
            commit = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(len(events)), "Nats-Batch-Commit": "1"}
            last = await self._connection.store(subject, events[-1].data, headers_of(events[-1]) | commit)
        return range(last - len(events) + 1, last + 1)

    async def store_once(self, subjects: Sequence[str], events: Sequence[Event], names: Sequence[str]) -> Sequence[int]:
        """Store replies, each on its subject. One whose name the server has seen of late is not stored again."""
        stored = await asyncio.gather(
            *(
                self._connection.store(subject, event.data, headers_of(event) | {"Nats-Msg-Id": name})
                for subject, event, name in zip(subjects, events, names, strict=True)
            ),
            return_exceptions=True,
        )
        for one in stored:
            if isinstance(one, BaseException):
                raise one
        return [one for one in stored if isinstance(one, int)]


def _batches(events: Sequence[Event]) -> list[Sequence[Event]]:
    """The events in the order that they have, in parts that fit an atomic batch."""
    batches: list[list[Event]] = [[]]
    size = 0
    for event in events:
        if batches[-1] and (len(batches[-1]) == _MOST or size + event.size > _MOST_BYTES):
            batches.append([])
            size = 0
        batches[-1].append(event)
        size += event.size
    return list(batches)
