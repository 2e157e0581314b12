"""Rows and the values of `channels.records`: how each is packed, and how it comes back."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from channels.records import (
    Attempt,
    CursorRecord,
    DeliveryRecord,
    DeliveryState,
    Failure,
    LogName,
    Mark,
    Phase,
    Record,
    StartRecord,
)
from channels.sqlite.schema import POSITION_MASK
from eventing.http_binding import event_of
from eventing.routing import ObjectName

if TYPE_CHECKING:
    from collections.abc import Mapping

Row = tuple[Any, ...]

RECORD_COLUMNS: Final = "key, time, ttl, head, data"

DELIVERY_COLUMNS: Final = (
    "id, trigger, trigger_namespace, trigger_name, namespace, broker, owner, partition, position,"
    " state, due, reason, updated, ttl, head, data, details"
)


def record_of(row: Row) -> Record:
    """From RECORD_COLUMNS."""
    key, time, ttl, head, data = row
    return Record(key & POSITION_MASK, time, event_of(head, data, ttl))


def position_of(row: Row) -> int:
    """The position of the record in RECORD_COLUMNS."""
    key: int = row[0]
    return key & POSITION_MASK


def size_of(row: Row) -> int:
    """The bytes of the event in RECORD_COLUMNS."""
    return len(row[3]) + len(row[4])


def start_of(log: LogName, row: Row) -> StartRecord:
    """From trigger, incarnation, positions."""
    trigger, incarnation, positions = row
    return StartRecord(trigger, log, incarnation, msgspec.msgpack.decode(positions, type=dict[int, int]))


def pack_positions(positions: Mapping[int, int]) -> bytes:
    return msgspec.msgpack.encode(dict(positions))


def cursor_of(log: LogName, row: Row) -> CursorRecord:
    """From trigger, partition, incarnation, position, fingerprint, pending."""
    trigger, partition, incarnation, position, fingerprint, pending = row
    mark = Mark(position, fingerprint)
    return CursorRecord(trigger, log, partition, incarnation, mark, unpack_pending(pending))


def pack_pending(pending: tuple[int, ...]) -> bytes:
    return struct.pack(f"<{len(pending)}q", *pending)


def unpack_pending(packed: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(packed) // 8}q", packed)


@dataclass(frozen=True, slots=True)
class _Details:
    """What nothing is looked up by. New fields get defaults, so that older rows still load."""

    phase: Phase
    tries: int
    attempts: tuple[Attempt, ...]
    failure: Failure | None
    created: float


def row_of(delivery: DeliveryRecord) -> Row:
    """To DELIVERY_COLUMNS."""
    details = _Details(delivery.phase, delivery.tries, delivery.attempts, delivery.failure, delivery.created)
    return (
        delivery.id,
        delivery.trigger,
        *delivery.trigger_name,
        *delivery.log,
        delivery.partition,
        delivery.position,
        delivery.state.value,
        delivery.due,
        delivery.reason,
        delivery.updated,
        delivery.event.ttl,
        delivery.event.head,
        delivery.event.data,
        msgspec.msgpack.encode(details),
    )


def delivery_of(row: Row) -> DeliveryRecord:
    """From DELIVERY_COLUMNS."""
    details = msgspec.msgpack.decode(row[16], type=_Details)
    return DeliveryRecord(
        id=row[0],
        trigger=row[1],
        trigger_name=ObjectName(row[2], row[3]),
        log=LogName(row[4], row[5], row[6]),
        partition=row[7],
        position=row[8],
        state=DeliveryState(row[9]),
        due=row[10],
        reason=row[11],
        updated=row[12],
        event=event_of(row[14], row[15], row[13]),
        phase=details.phase,
        tries=details.tries,
        attempts=details.attempts,
        failure=details.failure,
        created=details.created,
    )
