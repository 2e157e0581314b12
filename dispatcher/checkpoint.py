"""What is durable about a partition, and what the next checkpoint must say.

A checkpoint is one write. Its order matters where a backend has no transactions: replies first (never a settled cause
without its reply), then deliveries, then own cursors, then the tail, and last the cursors that the tail replaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from channels.records import DropCursor, ForgetTrigger, MoveTail, TailRecord

if TYPE_CHECKING:
    from channels.records import Change, CursorRecord, Mark
    from dispatcher.dispatch import Place
    from dispatcher.lane import Lane
    from eventing.event import Event


@dataclass(frozen=True, slots=True)
class LaneEntry:
    """What a checkpoint says of a lane: its first `settled` settlements, and its cursor after it."""

    lane: Lane
    settled: int
    cursor: CursorRecord | None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One write: `replies` to append, each with the id of its cause, then `changes`. The rest is what is known once that is durable."""

    replies: tuple[Event, ...]
    causes: tuple[str, ...]
    changes: tuple[Change, ...]
    tail: TailRecord
    lanes: tuple[LaneEntry, ...]
    forgotten: frozenset[str]


class Ledger:
    """Collects what changed since the last checkpoint, and takes note of what became durable."""

    def __init__(self, place: Place, tail: TailRecord | None) -> None:
        self.stored_tail = tail
        self._place = place
        self._members = set(tail.members) if tail else set[str]()
        self._touched: dict[Lane, None] = {}
        self._forgotten: set[str] = set()

    @property
    def touched(self) -> list[Lane]:
        """The lanes that the next checkpoint looks at."""
        return list(self._touched)

    def touch(self, lane: Lane) -> None:
        """Look at this lane at the next checkpoint."""
        self._touched[lane] = None

    def join(self, lane: Lane) -> None:
        """The lane stands at the tail from now on: its membership is durable before its own cursor goes."""
        self._members.add(lane.route.uid)
        self.touch(lane)

    def forget(self, uid: str, lane: Lane | None) -> None:
        """A Trigger was deleted: everything about it goes."""
        if lane is not None:
            self._touched.pop(lane, None)
        self._members.discard(uid)
        self._forgotten.add(uid)

    def collect(self, tail: Mark) -> Checkpoint | None:
        """What is to be stored now, with the tail at `tail`; None when nothing changed."""
        entries = tuple(entry for lane in self._touched if (entry := _entry(lane, tail)) is not None)
        settlements = [settlement for entry in entries for settlement in entry.lane.done[: entry.settled]]
        members = frozenset(self._members)
        place = self._place
        stored = self.stored_tail
        record = TailRecord(place.log, place.partition, place.incarnation, tail, members)
        changes: list[Change] = [ForgetTrigger(uid, place.log) for uid in self._forgotten]
        changes += [change for settlement in settlements for change in settlement.changes]
        changes += [entry.cursor for entry in entries if entry.cursor is not None and entry.cursor != entry.lane.stored]
        if stored is None or stored.members != members or stored.incarnation != place.incarnation:
            changes.append(record)
        elif stored.mark != tail:
            changes.append(MoveTail(place.log, place.partition, tail))
        changes += [
            DropCursor(entry.lane.route.uid, place.log, place.partition)
            for entry in entries
            if entry.cursor is None and entry.lane.stored is not None
        ]
        answered = [(one.reply, one.cause) for one in settlements if one.reply is not None]
        replies, causes = tuple(reply for reply, _ in answered), tuple(cause for _, cause in answered)
        if not changes and not replies and not entries:
            return None
        return Checkpoint(replies, causes, tuple(changes), record, entries, frozenset(self._forgotten))

    def confirm(self, checkpoint: Checkpoint) -> None:
        """The checkpoint is durable: free the places in the windows."""
        self.stored_tail = checkpoint.tail
        self._forgotten -= checkpoint.forgotten
        for entry in checkpoint.lanes:
            entry.lane.recorded(entry.settled, entry.cursor)
        for lane in [lane for lane in self._touched if lane.quiet]:
            del self._touched[lane]


def _entry(lane: Lane, tail: Mark) -> LaneEntry | None:
    cursor = lane.cursor(tail)
    if not lane.done and cursor == lane.stored:
        return None
    return LaneEntry(lane, len(lane.done), cursor)
