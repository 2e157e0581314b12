"""Retention: what every Trigger has settled is kept for replay, for a while and up to a size, and then trimmed.

How full the channel is, is told in steps, so that a status is written when something is to be done and not all the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from channels.errors import PositionExpired

if TYPE_CHECKING:
    from channels.driver import Log
    from dispatcher.settings import DispatchSettings
    from eventing.routing import Retention

MARKS = (100, 80, 50)
"""Per cent of the room for new events at which people are told."""

NEARLY_FULL = 80
"""From this mark on, settled events go early."""

SLACK = 5
"""Per cent by which a channel must fall below a mark before it counts as below it."""

PAGE = 256
"""Records per read while looking for where a size is reached."""


def mark_of(full: float, before: int) -> int:
    """The mark (0 for none) that a channel is at, given the share of its room that is taken and the mark that it was at."""
    for mark in MARKS:
        if full * 100 >= mark - (SLACK if before >= mark else 0):
            return mark
    return 0


async def trim(
    channel: Log, partition: int, settled_below: int, now: float, retention: Retention, settings: DispatchSettings
) -> int:
    """Trim one partition; return how many records went. Nothing at or above `settled_below` is touched.

    A record goes when it is older than the retention's age, or when the log holds more bytes than its size and it is
    among the oldest; what the Broker's retention leaves open is in the settings. `now` is in Unix seconds. Raises ChannelError.
    """
    bounds = await channel.bounds(partition)
    age = settings.retention_age if retention.age is None else retention.age
    size = settings.retention_size if retention.size is None else retention.size
    below = await channel.position_at(partition, now - age)
    excess = (await channel.stats()).bytes - size
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
