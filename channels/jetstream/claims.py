"""Which process owns which slots: a lease for each process, a claim record for each slot, both in the bucket.

    process.ID       renewed all the time, and removed by the server a while after the last renewal
    slot.N.claim     the owner; its revision is the claim number, and the condition of every write to the slot

All processes compute from the living ones alike who should have a slot. One that has a slot which is another's gives it up
once its work there is done; who should have it takes it when it is free or its owner is dead.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec

from channels.errors import AppendAmbiguous, ChannelError, ClaimLost
from channels.jetstream.bucket import Condition
from channels.jetstream.codec import StoredClaim, StoredProcess
from channels.jetstream.errors import ConditionFailed
from channels.jetstream.names import claim_key, process_key
from channels.records import SLOTS, Claim

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from channels.jetstream.bucket import Bucket, Entry

ROUND: Final = 2.0
"""Seconds between two looks."""

MARGIN: Final = 3
"""Seconds for which the server keeps a process's record longer than the process believes in its lease."""


class Claims:
    """The claims of this process. `lease` are the seconds for which one renewal counts."""

    def __init__(self, bucket: Bucket, process: str, lease: float) -> None:
        self._bucket = bucket
        self._process = process
        self._lease = lease
        self._renewal = 0
        self._deadline = 0.0
        self._owned: dict[int, int] = {}
        self._leaving: set[int] = set()
        self._fault: BaseException | None = None
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Return once `current` may say something else: for one caller, who then asks."""
        await self._changed.wait()
        self._changed.clear()

    def may_start(self, claim: Claim) -> bool:
        """Whether this process still has the slot under this claim, as far as it can know, and its lease has not run out."""
        return self._owned.get(claim.slot) == claim.number and asyncio.get_running_loop().time() < self._deadline

    def ended(self, run: asyncio.Task[None]) -> None:
        """`run` has come to its end: where that is a fault of ours, whoever asks for claims is told."""
        self._fault = None if run.cancelled() else run.exception()
        self._changed.set()

    def current(self) -> Mapping[int, Claim]:
        """The slots on which work may go on; none after the lease ran out."""
        if self._fault is not None:
            raise self._fault
        if asyncio.get_running_loop().time() >= self._deadline:
            return {}
        return {
            slot: Claim(slot, number, self._deadline)
            for slot, number in self._owned.items()
            if slot not in self._leaving
        }

    def condition(self, claim: Claim) -> Condition:
        """What a write under this claim depends on. Raises ClaimLost where it is known to be lost."""
        number = self._owned.get(claim.slot)
        if number != claim.number:
            raise ClaimLost(f"claim {claim.number} on slot {claim.slot} is old: now it is {number or 'not ours'}")
        return Condition(claim_key(claim.slot), claim.number)

    def lost(self, slot: int, number: int) -> None:
        """A write under this claim was refused."""
        if self._owned.get(slot) == number:
            del self._owned[slot]
            self._leaving.discard(slot)
            self._changed.set()

    async def release(self, slot: int) -> None:
        """Give a slot up that is another's. Raises ChannelError."""
        if slot in self._leaving:
            self._leaving.discard(slot)
            await self._give_up({slot: self._owned.pop(slot)})

    async def run(self) -> None:
        """Renew the lease and follow who is alive, until cancelled. Without NATS the lease runs out by itself."""
        while True:
            await asyncio.sleep(min(ROUND, self._lease / 4))
            try:
                await self.round()
            except ChannelError:
                # The deadline is what counts: it was not moved.
                continue

    async def close(self) -> None:
        """Give everything up, so that others need not wait for the lease to run out."""
        owned, self._owned = self._owned, {}
        self._deadline = 0.0
        try:
            await self._give_up(owned)
            await self._bucket.write(
                {process_key(self._process): None}, Condition(process_key(self._process), self._renewal)
            )
        except ChannelError:
            # The server removes the record.
            return

    async def round(self) -> None:
        """Renew the lease, then take and leave slots. Raises ChannelError."""
        await self._renew()
        alive = {entry.key.rpartition(".")[2] for entry in await self._bucket.read("process.*")} | {self._process}
        records = {int(entry.key.split(".")[1]): entry for entry in await self._bucket.read("slot.*.claim")}
        processes = sorted(alive)
        wanted = {}
        for slot in range(SLOTS):
            record = records.get(slot)
            number = self._owned.get(slot)
            if number is not None and record is not None and record.revision > number:
                self.lost(slot, number)
                number = None
            mine = _owner(slot, processes) == self._process
            if number is not None and mine == (slot in self._leaving):
                self._changed.set()
                (self._leaving.discard if mine else self._leaving.add)(slot)
            elif number is None and mine and self._is_free(record, alive):
                wanted[Condition(claim_key(slot), record.revision if record is not None else 0)] = slot
        await self._take(wanted)

    async def _renew(self) -> None:
        sent = asyncio.get_running_loop().time()
        if sent >= self._deadline:
            # Work under these has stopped, or is about to. It must not go on beside what begins under the next ones.
            self._owned.clear()
            self._leaving.clear()
            self._changed.set()
        key = process_key(self._process)
        value = msgspec.msgpack.encode(StoredProcess(socket.gethostname(), os.getpid()))
        condition = Condition(key, self._renewal) if self._renewal else None
        try:
            self._renewal = await self._bucket.put(key, value, ttl=int(self._lease) + MARGIN, condition=condition)
        except ConditionFailed:
            self._renewal = 0
            if await self._bucket.get(key) is not None:
                # Another process has our id, since it was given a copy of our directory: that is not the same process.
                self._process = secrets.token_hex(8)
                self._owned.clear()
                self._leaving.clear()
            await self._renew()
            return
        except AppendAmbiguous:
            self._renewal = 0
            raise
        self._deadline = sent + self._lease

    def _is_free(self, record: Entry | None, alive: set[str]) -> bool:
        if record is None:
            return True
        owner = msgspec.msgpack.decode(record.value, type=StoredClaim).owner
        return owner not in alive or owner == self._process

    async def _take(self, wanted: Mapping[Condition, int]) -> None:
        if not wanted:
            return
        value = msgspec.msgpack.encode(StoredClaim(self._process))
        try:
            last = await self._bucket.put_each(dict.fromkeys(wanted, value))
        except ConditionFailed:
            # Somebody was quicker: the next round sees it.
            return
        first = last - len(wanted) + 1
        for number, slot in enumerate(wanted.values(), first):
            self._owned[slot] = number
        self._changed.set()

    async def _give_up(self, owned: Mapping[int, int]) -> None:
        free = msgspec.msgpack.encode(StoredClaim(""))
        try:
            if owned:
                await self._bucket.put_each(
                    {Condition(claim_key(slot), number): free for slot, number in owned.items()}
                )
        except ConditionFailed:
            return


def _owner(slot: int, processes: Sequence[str]) -> str:
    """Who should have a slot: when a process comes or goes, only the slots that it gets or had move."""
    return max(processes, key=lambda process: blake2b(f"{slot}/{process}".encode(), digest_size=8).digest())
