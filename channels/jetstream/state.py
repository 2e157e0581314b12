"""What dispatch remembers, as keys of the bucket. Writes of one slot go one after the other, each bound to the claim."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from channels.channel import check_slot
from channels.errors import ClaimLost
from channels.jetstream.bucket import Condition
from channels.jetstream.changes import BROKER_DELETED, Draft, Known, Tails, dead
from channels.jetstream.codec import (
    StoredCursor,
    StoredMembers,
    StoredStart,
    StoredTail,
    mark_of,
    pack_delivery,
    unpack_delivery,
)
from channels.jetstream.errors import ConditionFailed
from channels.jetstream.names import (
    DeliveryKey,
    all_of,
    cursors_of,
    deliveries_of,
    delivery_by_id,
    log_key,
    parked_of,
    parked_of_log,
    slot_root,
    start_key,
)
from channels.records import (
    CursorRecord,
    DeliveryPage,
    DeliveryRecord,
    DropCursor,
    ForgetTrigger,
    Mark,
    MoveTail,
    RemoveDelivery,
    SlotState,
    StartRecord,
    TailRecord,
    slot_of,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from channels.channel import ChannelSettings
    from channels.jetstream.bucket import Bucket, Entry
    from channels.jetstream.claims import Claims
    from channels.jetstream.tasks import Tasks
    from channels.records import Change, Claim, DeliveryState, LogName, ParkedRef

_AT_ONCE = 64
"""Deliveries that are read together."""


class JetStreamState:
    """Implements `channels.driver.State`."""

    def __init__(
        self,
        bucket: Bucket,
        claims: Claims,
        tasks: Tasks,
        settings: ChannelSettings,
        find_log: Callable[[LogName], Awaitable[object]],
    ) -> None:
        self._find_log = find_log
        self._bucket = bucket
        self._claims = claims
        self._tasks = tasks
        self._settings = settings
        self._locks: dict[int, asyncio.Lock] = {}
        self._tails: dict[int, tuple[int, Tails]] = {}

    # --- claims and slots -----------------------------------------------------------------------------------------

    async def claims(self) -> Mapping[int, Claim]:
        self._tasks.check()
        return self._claims.current()

    async def claims_changed(self) -> None:
        await self._claims.changed()

    def may_start(self, claim: Claim) -> bool:
        return self._claims.may_start(claim)

    async def release(self, slot: int) -> None:
        await self._claims.release(slot)

    async def load(self, slot: int) -> SlotState:
        self._tasks.check()
        return _slot_state(await self._bucket.read_now(slot_root(slot)))

    # --- changes --------------------------------------------------------------------------------------------------

    async def put(self, slot: int, claim: Claim, changes: Sequence[Change]) -> None:
        await self.settle(slot, claim, changes, None)

    async def settle(
        self, slot: int, claim: Claim, changes: Sequence[Change], before: Callable[[], Awaitable[None]] | None
    ) -> None:
        """As `put`; once it is clear that the changes are good, await `before`, and only then write them."""
        # The caller may use its list again, while the request still stands.
        changes = tuple(changes)
        check_slot(slot, claim, changes)
        await self._tasks.run(self._settle(slot, claim, changes, before))

    async def _settle(
        self, slot: int, claim: Claim, changes: Sequence[Change], before: Callable[[], Awaitable[None]] | None
    ) -> None:
        async with self._locks.setdefault(slot, asyncio.Lock()):
            condition = self._claims.condition(claim)
            draft = Draft(await self._tails_of(slot, claim), await self._known(slot, changes))
            for change in changes:
                await self._apply(draft, change)
            if before is not None:
                await before()
            # Until it is clear what became of the write, what the slot has is not known.
            self._tails.pop(slot, None)
            try:
                revision = await self._bucket.write(draft.writes, condition)
            except ConditionFailed as error:
                self._claims.lost(slot, claim.number)
                raise ClaimLost(f"claim {claim.number} on slot {slot} is old: another process has it") from error
            self._tails[slot] = (claim.number, draft.tails)
            await self._bucket.remove(draft.unlisted, revision)

    async def _apply(self, draft: Draft, change: Change) -> None:
        try:
            draft.apply(change)
        except ValueError:
            if isinstance(change, MoveTail | DropCursor):
                # Where the log is gone its tail went with it: that is what the caller should hear.
                await self._find_log(change.log)
            raise

    async def _tails_of(self, slot: int, claim: Claim) -> Tails:
        number, tails = self._tails.get(slot, (0, {}))
        if number != claim.number:
            state = _slot_state(await self._bucket.read_now(slot_root(slot)))
            tails = {(tail.log, tail.partition): tail.members for tail in state.tails}
            self._tails[slot] = (claim.number, tails)
        return tails

    async def _known(self, slot: int, changes: Sequence[Change]) -> Known:
        """What of the bucket matters to these changes."""
        known = Known()
        ids = {change.id for change in changes if isinstance(change, DeliveryRecord | RemoveDelivery)}
        for change in changes:
            if isinstance(change, ForgetTrigger) and change not in known.parked:
                known.cursors[change] = await self._bucket.keys(cursors_of(change.trigger, change.log, slot))
                keys = await self._bucket.keys(parked_of(change.trigger, change.log))
                known.parked[change] = await self._parked_records(change.log, keys, slot)
                ids |= {delivery.id for delivery in known.parked[change]}
        names = await asyncio.gather(*(self._bucket.keys(delivery_by_id(delivery)) for delivery in ids))
        known.keys = {
            delivery: [DeliveryKey.parse(key) for key in keys] for delivery, keys in zip(ids, names, strict=True)
        }
        return known

    async def _parked_records(self, log: LogName, keys: Sequence[str], slot: int | None) -> list[DeliveryRecord]:
        """The deliveries that these keys of the index stand for, of one slot or of all."""
        records = [DeliveryKey.from_parked(key, log.namespace) for key in keys]
        return await self._records(
            [record for record in records if slot is None or slot_of(log, int(record.partition)) == slot]
        )

    async def _records(self, keys: Sequence[DeliveryKey]) -> list[DeliveryRecord]:
        found: list[DeliveryRecord] = []
        for begin in range(0, len(keys), _AT_ONCE):
            entries = await self._bucket.read_each([key.record for key in keys[begin : begin + _AT_ONCE]])
            found += [unpack_delivery(DeliveryKey.parse(entry.key).id, entry.value) for entry in entries]
        return found

    async def delete_log(self, log: LogName) -> None:
        """Remove what is remembered of a log that was deleted; what its Triggers still owed is dead."""
        for number, tails in self._tails.values():
            del number
            for key in [key for key in tails if key[0] == log]:
                del tails[key]
        await self._bucket.remove_all(all_of(log))
        keys = await self._bucket.keys(parked_of_log(log))
        for delivery in await self._parked_records(log, keys, None):
            now = dead(delivery, BROKER_DELETED)
            old = DeliveryKey.of(delivery)
            writes: dict[str, bytes | None] = {old.record: None, DeliveryKey.of(now).record: pack_delivery(now)}
            revision = await self._bucket.write(writes)
            await self._bucket.remove([old.record], revision)
        await self._bucket.remove_all(parked_of_log(log))

    # --- starts ---------------------------------------------------------------------------------------------------

    async def put_start(self, start: StartRecord) -> StartRecord:
        key = start_key(start.trigger, start.log)
        value = msgspec.msgpack.encode(StoredStart(start.log, start.trigger, start.incarnation, dict(start.positions)))
        while True:
            found = await self._bucket.last(key)
            if found is not None and not found.removed:
                known = _start(found.value)
                if known.incarnation == start.incarnation:
                    return known
            try:
                await self._bucket.put(key, value, condition=Condition(key, found.revision if found else 0))
            except ConditionFailed:
                # Somebody else wrote it meanwhile, or the server removed what was left of it: look again.
                continue
            return start

    async def get_start(self, trigger: str, log: LogName) -> StartRecord | None:
        found = await self._bucket.get(start_key(trigger, log))
        return _start(found.value) if found is not None else None

    # --- deliveries -----------------------------------------------------------------------------------------------

    async def parked(self, trigger: str, log: LogName, partition: int, limit: int) -> Sequence[ParkedRef]:
        keys = await self._bucket.keys(parked_of(trigger, log, partition))
        refs = [DeliveryKey.parse_parked(key) for key in keys]
        return sorted(refs, key=lambda ref: (ref.due, ref.id))[:limit]

    async def get_delivery(self, delivery: str) -> DeliveryRecord | None:
        found = await self._bucket.get(delivery_by_id(delivery))
        return unpack_delivery(delivery, found.value) if found is not None else None

    async def list_deliveries(
        self, *, state: DeliveryState | None = None, namespace: str = "", cursor: str = "", limit: int = 500
    ) -> DeliveryPage:
        keys = [DeliveryKey.parse(key) for key in await self._bucket.keys(deliveries_of(state, namespace))]
        left = sorted(key for key in keys if key.id > cursor)
        while left:
            count = _fitting(left, limit, self._settings.page_bytes)
            found = await self._records(left[:count])
            last, left = left[count - 1].id, left[count:]
            if found or not left:
                return DeliveryPage(tuple(sorted(found, key=lambda each: each.id)), last if left else "")
        return DeliveryPage((), "")


def _fitting(keys: Sequence[DeliveryKey], limit: int, size: int) -> int:
    """How many of the first deliveries a page of `limit` and `size` bytes has: one at least."""
    count = 0
    for key in keys[:limit]:
        size -= int(key.size)
        if count and size < 0:
            break
        count += 1
    return count


def _start(value: bytes) -> StartRecord:
    stored = msgspec.msgpack.decode(value, type=StoredStart)
    return StartRecord(stored.trigger, stored.log, stored.incarnation, stored.positions)


def _slot_state(entries: Sequence[Entry]) -> SlotState:
    starts: list[StartRecord] = []
    cursors: list[CursorRecord] = []
    marks: dict[tuple[str, int], Mark] = {}
    members: list[StoredMembers] = []
    for entry in entries:
        _, _, kind, *rest = entry.key.split(".")
        if kind == "start":
            starts.append(_start(entry.value))
        elif kind == "cursor":
            cursors.append(_cursor(entry.value))
        elif kind == "tail":
            marks[rest[0], int(rest[1])] = mark_of(msgspec.msgpack.decode(entry.value, type=StoredTail))
        elif kind == "members":
            members.append(msgspec.msgpack.decode(entry.value, type=StoredMembers))
    tails = [
        TailRecord(
            each.log,
            each.partition,
            each.incarnation,
            marks[log_key(each.log), each.partition],
            frozenset(each.members),
        )
        for each in members
        if (log_key(each.log), each.partition) in marks
    ]
    return SlotState(tuple(starts), tuple(tails), tuple(cursors))


def _cursor(value: bytes) -> CursorRecord:
    stored = msgspec.msgpack.decode(value, type=StoredCursor)
    mark = Mark(stored.position, stored.fingerprint)
    return CursorRecord(stored.trigger, stored.log, stored.partition, stored.incarnation, mark, stored.pending)
