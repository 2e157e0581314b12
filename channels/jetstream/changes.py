"""What a list of changes writes to the bucket: decided here, without I/O, from what the bucket has now.

A change that breaks a rule of the contract raises ValueError: that is a fault of the caller, not of the store.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, assert_never

import msgspec

from channels.jetstream.codec import StoredCursor, StoredMembers, StoredTail, pack_delivery
from channels.jetstream.names import DeliveryKey, cursor_key, members_key, start_key, tail_key
from channels.records import (
    Change,
    CursorRecord,
    DeliveryRecord,
    DeliveryState,
    DropCursor,
    ForgetTrigger,
    LogName,
    MoveTail,
    RemoveDelivery,
    TailRecord,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from channels.records import Mark

TRIGGER_DELETED: Final = "the Trigger was deleted"
BROKER_DELETED: Final = "the Broker was deleted"

Tails = dict[tuple[LogName, int], frozenset[str]]
"""The tails of a slot, by log and partition, with their members."""


@dataclass
class Known:
    """What of the bucket matters to some changes: the keys of each delivery that is touched, and what Triggers leave."""

    keys: dict[str, Sequence[DeliveryKey]] = field(default_factory=dict)
    cursors: dict[ForgetTrigger, Sequence[str]] = field(default_factory=dict)
    parked: dict[ForgetTrigger, Sequence[DeliveryRecord]] = field(default_factory=dict)


class Draft:
    """The keys that changes write (None: remove), in their order, and the tails as they are then."""

    def __init__(self, tails: Mapping[tuple[LogName, int], frozenset[str]], known: Known) -> None:
        self.tails: Tails = dict(tails)
        self.writes: dict[str, bytes | None] = {}
        self._known = known
        self._put: dict[str, DeliveryRecord] = {}

    @property
    def unlisted(self) -> list[str]:
        """Keys of deliveries that were removed: nothing may list them any more."""
        return [key for key, value in self.writes.items() if value is None and key.startswith(("delivery.", "parked."))]

    def apply(self, change: Change) -> None:
        """One change, on top of those before. Raises ValueError."""
        match change:
            case MoveTail():
                self._move_tail(change)
            case CursorRecord():
                self._set_cursor(change)
            case DeliveryRecord():
                self._set_delivery(change)
            case RemoveDelivery():
                self._remove_delivery(change.id)
            case DropCursor():
                self._drop_cursor(change)
            case TailRecord():
                self._set_tail(change)
            case ForgetTrigger():
                self._forget(change)
            case _:
                assert_never(change)

    def _write(self, key: str, value: bytes | None) -> None:
        # The last writing counts and stands last.
        self.writes.pop(key, None)
        self.writes[key] = value

    def _move_tail(self, change: MoveTail) -> None:
        if (change.log, change.partition) not in self.tails:
            raise ValueError(
                f"MoveTail: partition {change.partition} of {change.log} has no tail: put a TailRecord first"
            )
        self._write(tail_key(change.log, change.partition), _packed(change.mark))

    def _set_tail(self, tail: TailRecord) -> None:
        members = StoredMembers(tail.log, tail.partition, tail.incarnation, sorted(tail.members))
        self._write(members_key(tail.log, tail.partition), msgspec.msgpack.encode(members))
        self._write(tail_key(tail.log, tail.partition), _packed(tail.mark))
        self.tails[tail.log, tail.partition] = tail.members

    def _set_cursor(self, cursor: CursorRecord) -> None:
        stored = StoredCursor(
            cursor.log,
            cursor.trigger,
            cursor.partition,
            cursor.incarnation,
            cursor.mark.position,
            cursor.mark.fingerprint,
            cursor.pending,
        )
        self._write(cursor_key(cursor.trigger, cursor.log, cursor.partition), msgspec.msgpack.encode(stored))

    def _drop_cursor(self, change: DropCursor) -> None:
        if change.trigger not in self.tails.get((change.log, change.partition), ()):
            raise ValueError(
                f"DropCursor: Trigger {change.trigger} is no member of the tail of partition {change.partition} of"
                f" {change.log}: without its cursor nothing would say what it is owed"
            )
        self._write(cursor_key(change.trigger, change.log, change.partition), None)

    def _set_delivery(self, delivery: DeliveryRecord) -> None:
        self._remove_delivery(delivery.id)
        key = DeliveryKey.of(delivery)
        self._known.keys[delivery.id] = (key,)
        self._put[delivery.id] = delivery
        self._write(key.record, pack_delivery(delivery))
        if key.parked is not None:
            self._write(key.parked, b"")

    def _remove_delivery(self, delivery: str) -> None:
        self._put.pop(delivery, None)
        for key in self._known.keys.pop(delivery, ()):
            self._write(key.record, None)
            if key.parked is not None:
                self._write(key.parked, None)

    def _forget(self, change: ForgetTrigger) -> None:
        self._write(start_key(change.trigger, change.log), None)
        for key in self._known.cursors[change]:
            self._write(key, None)
        for key in [key for key, value in self.writes.items() if value is not None and _is_cursor_of(key, change)]:
            self._write(key, None)
        stored = [delivery for delivery in self._known.parked[change] if delivery.id not in self._put]
        for delivery in [*stored, *self._put.values()]:
            if delivery.id in self._known.keys and _is_owed(delivery, change):
                self._set_delivery(dead(delivery, TRIGGER_DELETED))


def dead(delivery: DeliveryRecord, reason: str) -> DeliveryRecord:
    """A parked delivery that nobody will make any more."""
    return replace(delivery, state=DeliveryState.DEAD, reason=reason, updated=time.time())


def _is_owed(delivery: DeliveryRecord, change: ForgetTrigger) -> bool:
    return (
        delivery.trigger == change.trigger and delivery.log == change.log and delivery.state is DeliveryState.RETRYING
    )


def _is_cursor_of(key: str, change: ForgetTrigger) -> bool:
    parts = key.split(".")
    if parts[0] != "slot" or parts[2] != "cursor":
        return False
    return key == cursor_key(change.trigger, change.log, int(parts[4]))


def _packed(mark: Mark) -> bytes:
    return msgspec.msgpack.encode(StoredTail(mark.position, mark.fingerprint))
