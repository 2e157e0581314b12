"""What dispatch remembers, in tables of the same file. Slots mean nothing here but what belongs together at load."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from channels.channel import check_slot
from channels.records import SLOTS, Claim, DeliveryPage, LogName, Mark, ParkedRef, SlotState, TailRecord, slot_of
from channels.sqlite.changes import apply, check_claim, put_start
from channels.sqlite.codec import DELIVERY_COLUMNS, cursor_of, delivery_of, start_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from channels.channel import ChannelSettings
    from channels.records import Change, CursorRecord, DeliveryRecord, DeliveryState, StartRecord
    from channels.sqlite.reader import Reader
    from channels.sqlite.transaction import Transaction
    from channels.sqlite.writer import Writer


class SqliteState:
    """Implements `channels.driver.State`. Whoever has the lock on the store owns all slots, for ever.

    `number` is the claim number: it is stored, and rises whenever the store is opened.
    """

    def __init__(self, number: int, writer: Writer, reader: Reader, settings: ChannelSettings) -> None:
        self._claims = {slot: Claim(slot, number, math.inf) for slot in range(SLOTS)}
        self._writer = writer
        self._reader = reader
        self._settings = settings

    async def claims(self) -> Mapping[int, Claim]:
        return self._claims

    async def claims_changed(self) -> None:
        # One process has the file, and with it every slot for as long as it runs.
        await asyncio.Event().wait()

    def may_start(self, claim: Claim) -> bool:  # noqa: ARG002 - the signature of the contract
        return True

    async def release(self, slot: int) -> None:
        """Nobody else can have it."""

    async def load(self, slot: int) -> SlotState:
        return await self._reader.run(lambda connection: _load(connection, slot))

    async def put(self, slot: int, claim: Claim, changes: Sequence[Change]) -> None:
        # The caller may be cancelled and use its list again, while the request still stands.
        changes = tuple(changes)
        check_slot(slot, claim, changes)

        def run(tx: Transaction) -> None:
            check_claim(claim, tx.catalog.claim)
            apply(tx, changes)

        await self._writer.submit(run)

    async def put_start(self, start: StartRecord) -> StartRecord:
        return await self._writer.submit(lambda tx: put_start(tx, start))

    async def get_start(self, trigger: str, log: LogName) -> StartRecord | None:
        def question(connection: sqlite3.Connection) -> StartRecord | None:
            row = connection.execute(_START, (trigger, *log)).fetchone()
            return start_of(log, row) if row is not None else None

        return await self._reader.run(question)

    async def parked(self, trigger: str, log: LogName, partition: int, limit: int) -> Sequence[ParkedRef]:
        def question(connection: sqlite3.Connection) -> Sequence[ParkedRef]:
            return [ParkedRef(*row) for row in connection.execute(_PARKED, (trigger, partition, *log, limit))]

        return await self._reader.run(question)

    async def get_delivery(self, delivery: str) -> DeliveryRecord | None:
        def question(connection: sqlite3.Connection) -> DeliveryRecord | None:
            row = connection.execute(_DELIVERY, (delivery,)).fetchone()
            return delivery_of(row) if row is not None else None

        return await self._reader.run(question)

    async def list_deliveries(
        self, *, state: DeliveryState | None = None, namespace: str = "", cursor: str = "", limit: int = 500
    ) -> DeliveryPage:
        wanted = [("id > ?", cursor)]
        if state is not None:
            wanted.append(("state = ?", state.value))
        if namespace:
            wanted.append(("namespace = ?", namespace))
        where = " AND ".join(condition for condition, _ in wanted)
        query = f"SELECT {DELIVERY_COLUMNS} FROM deliveries WHERE {where} ORDER BY id LIMIT ?"  # noqa: S608 - only constants go into the text
        parameters = (*(value for _, value in wanted), limit + 1)

        def question(connection: sqlite3.Connection) -> DeliveryPage:
            return _page(connection.execute(query, parameters), limit, self._settings.page_bytes)

        return await self._reader.run(question)


def _page(rows: sqlite3.Cursor, limit: int, size: int) -> DeliveryPage:
    """Up to `limit` deliveries and `size` bytes of events (one at least); the cursor leads on where a row is left."""
    found: list[DeliveryRecord] = []
    for row in rows:
        delivery = delivery_of(row)
        size -= delivery.event.size
        if found and (len(found) == limit or size < 0):
            return DeliveryPage(tuple(found), found[-1].id)
        found.append(delivery)
    return DeliveryPage(tuple(found), "")


def _load(connection: sqlite3.Connection, slot: int) -> SlotState:
    starts: list[StartRecord] = []
    tails: list[TailRecord] = []
    cursors: list[CursorRecord] = []
    for log, *name in connection.execute("SELECT id, namespace, name, owner FROM logs WHERE NOT deleted").fetchall():
        of = LogName(*name)
        if slot_of(of, 0) != slot:
            continue
        starts += [start_of(of, row) for row in connection.execute(_STARTS, (log,))]
        cursors += [cursor_of(of, row) for row in connection.execute(_CURSORS, (log,))]
        tails += [_tail(connection, log, of, row) for row in connection.execute(_TAILS, (log,)).fetchall()]
    return SlotState(tuple(starts), tuple(tails), tuple(cursors))


def _tail(connection: sqlite3.Connection, log: int, name: LogName, row: tuple[int, str, int, int]) -> TailRecord:
    partition, incarnation, position, fingerprint = row
    members = connection.execute("SELECT trigger FROM members WHERE log = ? AND partition = ?", (log, partition))
    return TailRecord(
        name, partition, incarnation, Mark(position, fingerprint), frozenset(trigger for (trigger,) in members)
    )


_START: Final = """SELECT s.trigger, s.incarnation, s.positions FROM starts s JOIN logs l ON l.id = s.log
    WHERE s.trigger = ? AND l.namespace = ? AND l.name = ? AND l.owner = ? AND NOT l.deleted"""
_PARKED: Final = """SELECT id, due, length(head) + length(data) FROM deliveries
    WHERE trigger = ? AND partition = ? AND namespace = ? AND broker = ? AND owner = ? AND state = 'retrying'
    ORDER BY due, id LIMIT ?"""
_DELIVERY: Final = f"SELECT {DELIVERY_COLUMNS} FROM deliveries WHERE id = ?"  # noqa: S608 - the columns are a constant
_STARTS: Final = "SELECT trigger, incarnation, positions FROM starts WHERE log = ?"
_TAILS: Final = "SELECT partition, incarnation, position, fingerprint FROM tails WHERE log = ?"
_CURSORS: Final = "SELECT trigger, partition, incarnation, position, fingerprint, pending FROM cursors WHERE log = ?"
