"""How much room a stream has for new events: the last part of its limit is kept for replies, so that dispatch can drain it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from channels.errors import ChannelFull

if TYPE_CHECKING:
    from channels.jetstream.reader import StreamReader

_INTERVAL: Final = 1.0
"""Seconds for which a look at the stream holds."""

_STEP: Final = 1 << 20
"""Bytes of events after which it holds no longer: other processes write too."""


class Space:
    """Watches the limit of one stream; `share` is the part of it that publishers may fill."""

    def __init__(self, reader: StreamReader, share: float) -> None:
        self._reader = reader
        self._share = share
        self._left = 0.0
        self._trusted = 0
        self._looked = float("-inf")

    async def admit(self, size: int) -> None:
        """Take `size` bytes for new events. Raises ChannelFull when only the reserve is left, and ChannelError.

        A stream without a limit has that of the account or the server; one that drops its oldest records always has room.
        """
        row = self._reader.row
        limit = row.config["max_bytes"]
        if limit <= 0 or row.drops_oldest:
            return
        now = asyncio.get_running_loop().time()
        if self._left < size or self._trusted <= 0 or now - self._looked >= _INTERVAL:
            self._left = limit * self._share - (await self._reader.state()).size
            self._trusted, self._looked = _STEP, now
        if self._left < size:
            raise ChannelFull(
                f"the stream {row.stream} holds {self._share:.0%} of the {limit} bytes that stream.maxBytes allows, the "
                "rest is kept for replies: raise it, shorten retention, or see which Trigger has not settled its events"
            )
        self._left -= size
        self._trusted -= size
