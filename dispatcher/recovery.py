"""Where each Trigger of a partition goes on after a start, read from the state.

    own cursor ─► else a member of the tail ─► else its start record ─► else it is not loaded

A record that does not fit the log (the log was made again, or the store restored) is clamped, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from channels.errors import PositionExpired
from channels.records import CursorRecord, Mark

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from channels.driver import Log, State
    from channels.records import Bounds, Record, SlotState, StartRecord, TailRecord
    from dispatcher.dispatch import Place

log = structlog.get_logger()

PAGE = 64
"""Records per read while pending ones are looked up."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the state says about one partition."""

    tail: TailRecord | None
    cursors: Mapping[str, CursorRecord]

    @property
    def uids(self) -> set[str]:
        """The Triggers that the state remembers a place of."""
        return {*self.cursors, *(self.tail.members if self.tail else ())}

    def without(self, uid: str) -> Found:
        """The same, when a Trigger was forgotten."""
        tail = replace(self.tail, members=self.tail.members - {uid}) if self.tail else None
        return Found(tail, {known: cursor for known, cursor in self.cursors.items() if known != uid})


@dataclass(frozen=True, slots=True)
class Resume:
    """Where one lane begins: after `mark`, with `owed` to be sent again first. `stored` is its cursor record.

    `skipped` deliveries were pending and cannot be made any more: retention removed their events.
    """

    mark: Mark
    at_tail: bool
    stored: CursorRecord | None = None
    owed: tuple[Record, ...] = ()
    skipped: int = 0


def find(state: SlotState, place: Place) -> Found:
    """The records of `place` among those of its slot."""
    tails = [tail for tail in state.tails if tail.log == place.log and tail.partition == place.partition]
    cursors = {
        cursor.trigger: cursor
        for cursor in state.cursors
        if cursor.log == place.log and cursor.partition == place.partition
    }
    return Found(tails[0] if tails else None, cursors)


async def tail_mark(found: Found, channel: Log, place: Place) -> Mark:
    """Where the tail reader begins: its record as far as it fits the log; at the log's end where there is none."""
    bounds = await channel.bounds(place.partition)
    if found.tail is None:
        # Nobody stands at the tail, so nothing between here and the end is owed to it: starts and cursors say the rest.
        return Mark(bounds.next - 1)
    return await _fitting(found.tail.mark, found.tail.incarnation, bounds, channel, place)


async def resume(uid: str, found: Found, tail: Mark, channel: Log, state: State, place: Place) -> Resume | None:
    """Where the Trigger goes on; None when the state knows nothing of it: absence never means settled."""
    cursor = found.cursors.get(uid)
    if cursor is not None:
        return await _from_cursor(cursor, channel, place)
    if found.tail is not None and uid in found.tail.members:
        return Resume(tail, at_tail=True)
    start = await state.get_start(uid, place.log)
    if start is None:
        return None
    return Resume(await _started(start, channel, place), at_tail=False)


async def _from_cursor(cursor: CursorRecord, channel: Log, place: Place) -> Resume:
    bounds = await channel.bounds(place.partition)
    mark = await _fitting(cursor.mark, cursor.incarnation, bounds, channel, place)
    if mark != cursor.mark:
        return Resume(mark, at_tail=False, stored=cursor)
    owed = await _records(channel, place, cursor.pending)
    lost = len(cursor.pending) - len(owed)
    if lost:
        log.error(
            "retention passed pending deliveries",
            trigger=cursor.trigger,
            broker=f"{place.log.namespace}/{place.log.name}",
            skipped=lost,
            fix="raise retention.size or retention.age of the Broker, or free the subscriber",
        )
    return Resume(mark, at_tail=False, stored=cursor, owed=tuple(owed), skipped=lost)


async def _started(start: StartRecord, channel: Log, place: Place) -> Mark:
    bounds = await channel.bounds(place.partition)
    if start.incarnation != place.incarnation:
        return Mark(bounds.first - 1)
    return Mark(start.positions.get(place.partition, bounds.first - 1))


async def _fitting(mark: Mark, incarnation: str, bounds: Bounds, channel: Log, place: Place) -> Mark:
    """`mark`, or the nearest place before it that surely loses nothing."""
    where = {"broker": f"{place.log.namespace}/{place.log.name}", "partition": place.partition}
    if incarnation != place.incarnation:
        log.error("the log was made again: delivering all that it has", **where)
        return Mark(bounds.first - 1)
    if mark.position >= bounds.next:
        log.error("a cursor lies past the end of the log: was it restored?", position=mark.position, **where)
        return Mark(bounds.next - 1)
    record = await _record(channel, place, mark.position) if mark.fingerprint else None
    if record is not None and record.fingerprint != mark.fingerprint:
        log.error("the log has another event where the cursor stands: delivering all that it has", **where)
        return Mark(bounds.first - 1)
    return mark


async def _records(channel: Log, place: Place, positions: Sequence[int]) -> list[Record]:
    """Those of the records at these rising positions that the log still has."""
    wanted = set(positions)
    found: list[Record] = []
    after = -1
    for position in positions:
        # What is pending stands close together, so a page has many of them.
        while after < position:
            try:
                page = await channel.read(place.partition, max(after, position - 1), PAGE)
            except PositionExpired as error:
                after = error.first - 1
                continue
            if not page.records:
                return found
            found += [record for record in page.records if record.position in wanted]
            after = page.next
    return found


async def _record(channel: Log, place: Place, position: int) -> Record | None:
    try:
        page = await channel.read(place.partition, position - 1, 1)
    except PositionExpired:
        return None
    return page.records[0] if page.records and page.records[0].position == position else None
