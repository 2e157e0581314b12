"""How each change of the state is written.

A change that breaks a rule of the contract raises ValueError: that is a fault of the caller, not of the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from channels.errors import ClaimLost
from channels.records import (
    CursorRecord,
    DeliveryRecord,
    DeliveryState,
    DropCursor,
    ForgetTrigger,
    MoveTail,
    RemoveDelivery,
    StartRecord,
    TailRecord,
)
from channels.sqlite.codec import DELIVERY_COLUMNS, pack_pending, pack_positions, row_of, start_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from channels.records import Change, Claim
    from channels.sqlite.transaction import Transaction

TRIGGER_DELETED = "the Trigger was deleted"


def check_claim(claim: Claim, latest: int) -> None:
    """Raise ClaimLost for a claim that an earlier opening of the store gave out."""
    if claim.number < latest:
        raise ClaimLost(f"claim {claim.number} on slot {claim.slot} is old: the store was opened again, as {latest}")


def apply(tx: Transaction, changes: Sequence[Change]) -> None:
    """Apply changes in their order. Raises LogNotFound, ValueError, sqlite3.Error."""
    for change in changes:
        match change:
            case MoveTail():
                _move_tail(tx, change)
            case CursorRecord():
                _set_cursor(tx, change)
            case DeliveryRecord():
                _set_delivery(tx, change)
            case RemoveDelivery():
                tx.execute("DELETE FROM deliveries WHERE id = ?", (change.id,))
            case DropCursor():
                _drop_cursor(tx, change)
            case TailRecord():
                _set_tail(tx, change)
            case ForgetTrigger():
                _forget(tx, change)
            case _:
                assert_never(change)


def put_start(tx: Transaction, start: StartRecord) -> StartRecord:
    """Store a start unless the same incarnation of the log has one; return the one that counts."""
    log = tx.log_id(start.log)
    row = tx.query(
        "SELECT trigger, incarnation, positions FROM starts WHERE log = ? AND trigger = ?", (log, start.trigger)
    )
    if row is not None:
        known = start_of(start.log, row)
        if known.incarnation == start.incarnation:
            return known
    tx.execute(
        "INSERT OR REPLACE INTO starts (log, trigger, incarnation, positions) VALUES (?, ?, ?, ?)",
        (log, start.trigger, start.incarnation, pack_positions(start.positions)),
    )
    return start


def _move_tail(tx: Transaction, change: MoveTail) -> None:
    moved = tx.execute(
        "UPDATE tails SET position = ?, fingerprint = ? WHERE log = ? AND partition = ?",
        (change.mark.position, change.mark.fingerprint, tx.log_id(change.log), change.partition),
    ).rowcount
    if not moved:
        raise ValueError(f"MoveTail: partition {change.partition} of {change.log} has no tail: put a TailRecord first")


def _set_tail(tx: Transaction, tail: TailRecord) -> None:
    log = tx.log_id(tail.log)
    tx.execute(
        "INSERT OR REPLACE INTO tails (log, partition, incarnation, position, fingerprint) VALUES (?, ?, ?, ?, ?)",
        (log, tail.partition, tail.incarnation, tail.mark.position, tail.mark.fingerprint),
    )
    before = tx.catalog.members(log, tail.partition)
    gone = [(log, tail.partition, trigger) for trigger in before - tail.members]
    new = [(log, tail.partition, trigger) for trigger in tail.members - before]
    tx.execute_many("DELETE FROM members WHERE log = ? AND partition = ? AND trigger = ?", gone)
    tx.execute_many("INSERT INTO members (log, partition, trigger) VALUES (?, ?, ?)", new)
    tx.catalog.set_members(log, tail.partition, tail.members)


def _set_cursor(tx: Transaction, cursor: CursorRecord) -> None:
    tx.execute(
        "INSERT OR REPLACE INTO cursors (log, trigger, partition, incarnation, position, fingerprint, pending)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            tx.log_id(cursor.log),
            cursor.trigger,
            cursor.partition,
            cursor.incarnation,
            cursor.mark.position,
            cursor.mark.fingerprint,
            pack_pending(cursor.pending),
        ),
    )


def _drop_cursor(tx: Transaction, change: DropCursor) -> None:
    log = tx.log_id(change.log)
    if change.trigger not in tx.catalog.members(log, change.partition):
        raise ValueError(
            f"DropCursor: Trigger {change.trigger} is no member of the tail of partition {change.partition} of"
            f" {change.log}: without its cursor nothing would say what it is owed"
        )
    tx.execute(
        "DELETE FROM cursors WHERE log = ? AND trigger = ? AND partition = ?", (log, change.trigger, change.partition)
    )


def _set_delivery(tx: Transaction, delivery: DeliveryRecord) -> None:
    tx.execute(_SET_DELIVERY, row_of(delivery))


_SET_DELIVERY = (
    f"INSERT OR REPLACE INTO deliveries ({DELIVERY_COLUMNS})"  # noqa: S608 - the columns are a constant
    f" VALUES ({', '.join('?' for _ in DELIVERY_COLUMNS.split(','))})"
)


def _forget(tx: Transaction, change: ForgetTrigger) -> None:
    log = tx.catalog.ids.get(change.log)
    if log is not None:
        tx.execute("DELETE FROM starts WHERE log = ? AND trigger = ?", (log, change.trigger))
        tx.execute("DELETE FROM cursors WHERE log = ? AND trigger = ?", (log, change.trigger))
    tx.execute(
        "UPDATE deliveries SET state = ?, reason = ?, updated = ?"
        " WHERE trigger = ? AND state = 'retrying' AND namespace = ? AND broker = ? AND owner = ?",
        (DeliveryState.DEAD, TRIGGER_DELETED, tx.now, change.trigger, *change.log),
    )
