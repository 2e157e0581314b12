"""Writes the checkpoints of a partition: soon after something settled, at once when a window is half full."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from channels.errors import ChannelError, ClaimLost, LogNotFound
from channels.records import Claim, slot_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from channels.driver import Log, State
    from channels.records import DeliveryRecord, Mark
    from dispatcher.checkpoint import Ledger
    from dispatcher.dispatch import Place
    from dispatcher.lane import Lane
    from dispatcher.settings import DispatchSettings

log = structlog.get_logger()


class Recorder:
    """One checkpoint at a time: what settles meanwhile goes with the next.

    `tail` tells where the tail reader stands. Parked deliveries are asked for here too, since a place for them becomes
    free when something was recorded.
    """

    def __init__(
        self,
        channel: Log,
        state: State,
        claim: Claim,
        place: Place,
        settings: DispatchSettings,
        tail: Callable[[], Mark],
    ) -> None:
        self._log = channel
        self._state = state
        self._claim = claim
        self._place = place
        self._settings = settings
        self._tail = tail
        self._slot = slot_of(place.log, place.partition)
        self._due = asyncio.Event()
        self._ending = False
        self._timer: asyncio.TimerHandle | None = None

    def now(self) -> None:
        """Write a checkpoint as soon as the one under way is through."""
        self._due.set()

    def within(self, seconds: float) -> None:
        """Write a checkpoint at most `seconds` from now."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + seconds:
                return
            self._timer.cancel()
        self._timer = loop.call_later(seconds, self._timed)

    async def store(self, change: DeliveryRecord) -> None:
        """Write one delivery now, apart from checkpoints. Raises ChannelError."""
        await self._state.put(self._slot, self._claim, [change])

    def end(self) -> None:
        """Let `run` return after one more checkpoint."""
        self._ending = True
        self._due.set()

    def _timed(self) -> None:
        self._timer = None
        self._due.set()

    async def run(self, ledger: Ledger) -> None:
        """Write checkpoints until `end`, or until another process has the slot.

        A failure of the channel is tried again: nothing settled is forgotten.
        """
        while True:
            await self._due.wait()
            self._due.clear()
            last = self._ending
            try:
                await self._checkpoint(ledger)
            except LogNotFound:
                # The Broker was deleted, and with its log went everything that could be recorded.
                last = True
            except ClaimLost as error:
                self._lost(error)
                last = True
            except ChannelError as error:
                self._report(error, last=last)
                if not last:
                    self._due.set()
                    await asyncio.sleep(self._settings.store_retry)
            if last:
                break
        if self._timer is not None:
            self._timer.cancel()

    async def _checkpoint(self, ledger: Ledger) -> None:
        lanes = ledger.touched
        checkpoint = ledger.collect(self._tail())
        if checkpoint is not None:
            if checkpoint.replies:
                await self._log.append_settling(
                    checkpoint.replies, self._slot, self._claim, checkpoint.changes, checkpoint.causes
                )
            elif checkpoint.changes:
                await self._state.put(self._slot, self._claim, checkpoint.changes)
            ledger.confirm(checkpoint)
        for lane in lanes:
            if lane.parked.wants_more:
                ledger.touch(lane)
                await self._ask_for_parked(lane)

    async def _ask_for_parked(self, lane: Lane) -> None:
        limit = self._settings.page_records
        refs = await self._state.parked(lane.route.uid, self._place.log, self._place.partition, limit)
        lane.refill(refs, more=len(refs) == limit)

    @property
    def _where(self) -> dict[str, object]:
        return {"broker": f"{self._place.log.namespace}/{self._place.log.name}", "partition": self._place.partition}

    def _lost(self, error: ClaimLost) -> None:
        log.warning(
            "another process has taken the partition over: it repeats the deliveries since the last checkpoint",
            error=str(error),
            **self._where,
        )

    def _report(self, error: ChannelError, *, last: bool) -> None:
        where = self._where
        if last:
            log.error(
                "the last checkpoint failed: deliveries since the one before are repeated", error=str(error), **where
            )
        else:
            log.warning("a checkpoint failed; trying again", error=str(error), **where)
