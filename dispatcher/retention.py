"""Retention: what every Trigger has settled is kept for replay, for a while and up to a size, and then trimmed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from channels.errors import PositionExpired

if TYPE_CHECKING:
    from channels.driver import Log
    from dispatcher.settings import DispatchSettings

PAGE = 256
"""Records per read while looking for where a size is reached."""


async def trim(channel: Log, partition: int, settled_below: int, now: float, settings: DispatchSettings) -> int:
    """Trim one partition; return how many records went. Nothing at or above `settled_below` is touched.

    A record goes when it is older than `retention_age`, or when the log holds more than `retention_size` bytes and it
    is among the oldest. `now` is in Unix seconds. Raises ChannelError.
    """
    bounds = await channel.bounds(partition)
    below = await channel.position_at(partition, now - settings.retention_age)
    excess = (await channel.stats()).bytes - settings.retention_size
    if excess > 0:
        below = max(below, await _after_bytes(channel, partition, excess, settled_below))
    below = min(below, settled_below)
    return await channel.trim(partition, below) if below > bounds.first else 0


async def _after_bytes(channel: Log, partition: int, size: int, limit: int) -> int:
    """The position before which the oldest `size` bytes of the log lie, `limit` at most."""
    position = (await channel.bounds(partition)).first - 1
    while size > 0 and position < limit:
        try:
            page = await channel.read(partition, position, PAGE)
        except PositionExpired as error:
            position = error.first - 1
            continue
        if not page.records:
            break
        for record in page.records:
            size -= record.event.size
            position = record.position
            if size <= 0:
                break
    return position + 1
