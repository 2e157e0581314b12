"""The dispatch of one partition of one Broker's log.

    log ──► tail reader ──► match index ──► lanes at the tail ─────┐
     └────► sweep reader ─► match index ──► lanes that lag behind ─┤
                                                                   ▼
    delivery store ──► what is due again ─────────────► lane: window ──► dispatch() ──► Settlement
                                                                   │
    state ◄── checkpoint: replies, deliveries, cursors, tail ◄─────┘

Each record is read once for all Triggers that keep up, and at most once more for all that lag. All decisions happen
between two awaits on the event loop, so the tail, the lanes and the ledger always agree.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from channels.errors import ChannelError, PositionExpired
from channels.records import DeliveryState, Mark, ParkedRef, Phase, slot_of
from dispatcher.attempts import Attempts
from dispatcher.checkpoint import Ledger
from dispatcher.dispatch import Job, Place
from dispatcher.lane import Lane
from dispatcher.match import MatchIndex
from dispatcher.parked import ParkedQueue
from dispatcher.recorder import Recorder
from dispatcher.recovery import find, resume, tail_mark
from dispatcher.redelivery import RedeliveryClock
from dispatcher.reports import Reports
from eventing.routing import ObjectName, TriggerRoute

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from channels.driver import Log, State
    from channels.records import Claim, DeliveryRecord, Page
    from dispatcher.recovery import Found
    from dispatcher.services import Services

log = structlog.get_logger()


class PartitionDispatch:
    """Delivers the events of one partition to the Triggers of its Broker, from `run` until `stop`."""

    def __init__(self, channel: Log, partition: int, state: State, claim: Claim, services: Services) -> None:
        self.claim = claim
        self._log = channel
        self._state = state
        self._services = services
        self._settings = services.settings
        self._place = Place(channel.name, channel.incarnation, partition, channel.max_event_bytes)
        self._lanes: dict[str, Lane] = {}
        self._index: MatchIndex[Lane] = MatchIndex(())
        self._tail = Mark(0)
        self._found: Found | None = None
        self._ledger = Ledger(self._place, None)
        self._stopping = asyncio.Event()
        self._sweep_wanted = asyncio.Event()
        self._recorder = Recorder(channel, state, claim, self._place, self._settings, lambda: self._tail)
        self._clock = RedeliveryClock()
        self._reports = Reports(services, lambda: self._tail)
        self._attempts = Attempts(state, self._place, services, partial(state.may_start, claim))
        self._log_fields = {"broker": f"{channel.name.namespace}/{channel.name.name}", "partition": partition}

    @property
    def end(self) -> int:
        """How far the tail has read."""
        return self._tail.position

    @property
    def number(self) -> int:
        """The number of the partition in its log."""
        return self._place.partition

    # --- its life -------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Read what the state knows of this partition. Raises ChannelError."""
        self._found = find(await self._state.load(slot_of(self._log.name, self.number)), self._place)
        self._tail = await tail_mark(self._found, self._log, self._place)
        self._ledger = Ledger(self._place, self._found.tail)

    async def run(self) -> None:
        """Deliver until `stop`; then let attempts in flight settle, for the grace time at most, and store the rest.

        `load` and one `apply` come first: the tail must not move before those who stand at it are known.
        """
        async with asyncio.TaskGroup() as group:
            self._attempts.run(group)
            readers = [group.create_task(self._read_tail()), group.create_task(self._sweep())]
            recording = group.create_task(self._recorder.run(self._ledger))
            # It ends by itself when another process has the slot, and then there is nothing to deliver for.
            recording.add_done_callback(lambda _: self._stopping.set())
            self._clock.start()
            for lane in self._lanes.values():
                lane.pump()
            await self._ended(group)
            self._clock.stop()
            self._reports.stop()
            for reader in readers:
                reader.cancel()
            self._attempts.stop()
            late = await self._attempts.drain(self._settings.grace)
            if late:
                log.warning(
                    "deliveries in flight did not settle in the grace time; they are sent again after the next start",
                    deliveries=late,
                    **self._log_fields,
                )
            self._recorder.end()

    def stop(self) -> None:
        """Begin to end `run`: no new attempts."""
        self._stopping.set()

    async def _ended(self, group: asyncio.TaskGroup) -> None:
        """Return when `run` is to end: it was told, or its claim ran out."""
        ran_out = group.create_task(self._attempts.ended())
        ran_out.add_done_callback(lambda _: self._stopping.set())
        await self._stopping.wait()
        ran_out.cancel()

    @property
    def ending(self) -> bool:
        """Whether `run` ends or has ended."""
        return self._stopping.is_set()

    # --- the Triggers ---------------------------------------------------------------------------------------------

    async def apply(self, triggers: Mapping[str, TriggerRoute], *, live: bool) -> None:
        """Serve these Triggers (by uid) from now on. Raises ChannelError, and may then be called again.

        Those that are gone are forgotten only where the list is `live`; what a cached list lacks is kept, held.
        """
        known = self._known()
        wanted = dict(triggers) if live else {**{uid: self._held(uid) for uid in known}, **triggers}
        added = [lane for uid in wanted if uid not in self._lanes and (lane := await self._new_lane(wanted[uid]))]
        # From here to the new index nothing is awaited: a reader never sees a lane that the index lacks.
        for lane in added:
            self._admit(lane)
        for uid in known - wanted.keys():
            self._forget(uid)
        for uid, lane in self._lanes.items():
            if lane.route != wanted[uid]:
                lane.reroute(wanted[uid], self._tail)
        self._index = MatchIndex(
            (lane, lane.route.filter) for lane in self._lanes.values() if lane.route.filter is not None
        )
        self._sweep_wanted.set()
        for uid in self._lanes.keys() & triggers.keys():
            self._services.on_loaded(uid, self.number, triggers[uid].generation)

    def _known(self) -> set[str]:
        return {*self._lanes, *(self._found.uids if self._found else ())}

    def _held(self, uid: str) -> TriggerRoute:
        """A Trigger that the state knows and the routes lack keeps its place: the tail must not pass it unseen."""
        name = self._lanes[uid].route.name if uid in self._lanes else ObjectName("", "")
        return TriggerRoute(uid, name, 0, None, None, held="the Trigger is not among the routes")

    async def _new_lane(self, route: TriggerRoute) -> Lane | None:
        """A lane with what the state knows of the Trigger; None where it knows nothing."""
        if self._found is None:
            raise RuntimeError("load() comes before apply()")
        place = await resume(route.uid, self._found, self._tail, self._log, self._state, self._place)
        if place is None:
            return None
        most = self._settings.max_parked
        parked = await self._state.parked(route.uid, self._place.log, self._place.partition, most)
        queue = ParkedQueue(most, self._settings.max_parked_bytes)
        for ref in parked:
            queue.stored(ref.size)
        lane = Lane(self, self._place, route, self._services.budget, queue, self._services.catch_up)
        lane.resume(place.mark, place.stored, place.owed, at_tail=place.at_tail)
        lane.skipped = place.skipped
        lane.refill(parked, more=len(parked) == most)
        return lane

    def _admit(self, lane: Lane) -> None:
        self._lanes[lane.route.uid] = lane
        self._ledger.touch(lane)
        self._reports.soon(lane)
        lane.reroute(lane.route, self._tail)

    def _forget(self, uid: str) -> None:
        lane = self._lanes.pop(uid, None)
        if lane is not None:
            lane.close()
            self._clock.drop(lane)
        self._ledger.forget(uid, lane)
        self._recorder.now()
        if self._found is not None:
            self._found = self._found.without(uid)

    def _join(self, lane: Lane) -> None:
        lane.at_tail = True
        self._ledger.join(lane)

    # --- reading --------------------------------------------------------------------------------------------------

    @property
    def _page(self) -> int:
        return self._settings.page_records

    async def _read_tail(self) -> None:
        while True:
            try:
                page = await self._log.read(self._place.partition, self._tail.position, self._page)
                if page.next == self._tail.position:
                    await self._log.wait(self._place.partition, self._tail.position)
                    continue
            except PositionExpired as error:
                self._expired(error.first)
            except ChannelError as error:
                await self._wait_for_store(error)
            else:
                self._feed_tail(page)

    def _feed_tail(self, page: Page) -> None:
        for record in page.records:
            for lane in self._index.match(record.event.attributes):
                if not lane.at_tail:
                    continue
                if not lane.offer(record):
                    lane.leave_tail(Mark(record.position - 1))
                self._ledger.touch(lane)
        self._tail = _end(page)
        self._recorder.within(self._settings.tail_interval)

    async def _sweep(self) -> None:
        while True:
            await self._sweep_wanted.wait()
            self._sweep_wanted.clear()
            while ready := [lane for lane in self._lanes.values() if lane.wants_records]:
                try:
                    await self._sweep_once(min(lane.read.position for lane in ready))
                except PositionExpired as error:
                    self._expired(error.first)
                except ChannelError as error:
                    await self._wait_for_store(error)
                # What the ring has is read without a pause, and others have work to do meanwhile.
                await asyncio.sleep(0)

    async def _sweep_once(self, after: int) -> None:
        before = self._tail
        if after >= before.position:
            self._pass(after, before, {})
            return
        page = await self._log.read(self._place.partition, after, self._settings.sweep_records)
        end = _swept(page, self._tail, before)
        full: dict[Lane, None] = {}
        for record in page.records:
            if record.position > end.position:
                break
            for lane in self._index.match(record.event.attributes):
                if lane.at_tail or lane.held or lane in full or not after <= lane.read.position < record.position:
                    continue
                if not lane.offer(record):
                    lane.read = Mark(record.position - 1)
                    full[lane] = None
        self._pass(after, end, full)

    def _pass(self, after: int, end: Mark, full: Mapping[Lane, None]) -> None:
        """A sweep went from `after` to `end` and took all with it that stood between and are not `full`."""
        for lane in self._lanes.values():
            if lane.at_tail or lane.held or lane in full or lane.read.position < after:
                continue
            if lane.read.position < end.position:
                lane.read = end
            if lane.read.position >= self._tail.position:
                self._join(lane)
            self._ledger.touch(lane)
        self._recorder.within(self._settings.tail_interval)

    def _expired(self, first: int) -> None:
        if self._tail.position < first - 1:
            for lane in self._lanes.values():
                if lane.at_tail:
                    lane.leave_tail(self._tail)
            self._tail = Mark(first - 1)
        for lane in self._lanes.values():
            skipped = 0 if lane.at_tail else lane.skip_to(first)
            if skipped:
                self._ledger.touch(lane)
                log.error(
                    "retention passed a Trigger: at most so many positions were skipped",
                    trigger=str(lane.route.name),
                    skipped=skipped,
                    fix="raise retention.size or retention.age of the Broker, or free the subscriber",
                    **self._log_fields,
                )
        self._sweep_wanted.set()

    async def _wait_for_store(self, error: ChannelError) -> None:
        log.warning("the log cannot be read; trying again", error=str(error), **self._log_fields)
        await asyncio.sleep(self._settings.store_retry)

    # --- sending (what a Lane asks of its partition) --------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether deliveries may be started: not before `run`, nor after `stop`."""
        return self._attempts.running

    def start_job(self, lane: Lane, job: Job) -> None:
        """Make a delivery."""
        self._attempts.start(lane, job)

    def start_redelivery(self, lane: Lane, ref: ParkedRef) -> None:
        """Fetch a parked delivery and make it."""
        self._attempts.start_redelivery(lane, ref)

    def wake(self, lane: Lane, delay: float) -> asyncio.TimerHandle:
        """Call `lane.awake` in `delay` seconds."""
        return asyncio.get_running_loop().call_later(delay, lane.awake)

    def changed(self, lane: Lane, *, urgent: bool) -> None:
        """There is something to record about the lane."""
        self._ledger.touch(lane)
        self._reports.soon(lane)
        if urgent:
            self._recorder.now()
        else:
            self._recorder.within(self._settings.checkpoint_interval)

    def parking(self, lane: Lane) -> None:
        """The lane has a parked delivery to be woken for."""
        self._clock.watch(lane)

    def wants_records(self) -> None:
        """A lane that is not at the tail has room again."""
        self._sweep_wanted.set()

    async def retry(self, record: DeliveryRecord) -> bool:
        """Park a dead delivery, due now, as if it had never been tried. False where its Trigger has no lane here.

        Raises ChannelError.
        """
        lane = self._lanes.get(record.trigger)
        if lane is None:
            return False
        now = time.time()
        parked = replace(
            record,
            state=DeliveryState.RETRYING,
            phase=Phase.SUBSCRIBER,
            due=now,
            reason="",
            tries=0,
            failure=None,
            updated=now,
        )
        await self._recorder.store(parked)
        lane.parked.stored(parked.event.size)
        lane.park(ParkedRef(parked.id, parked.due, parked.event.size))
        return True

    def serves(self, uids: Iterable[str]) -> bool:
        """Whether all these Triggers have their lanes."""
        return self._lanes.keys() >= set(uids)

    # --- for retention --------------------------------------------------------------------------------------------

    @property
    def settled_below(self) -> int:
        """Every position below this one is durably settled for every Trigger: it may be trimmed."""
        tail = self._ledger.stored_tail
        if tail is None:
            return 0
        needs = (lane.needs_from(tail) for lane in self._lanes.values())
        return min(needs, default=tail.mark.position + 1)


def _end(page: Page) -> Mark:
    last = page.records[-1] if page.records else None
    return Mark(page.next, last.fingerprint if last is not None and last.position == page.next else 0)


def _swept(page: Page, tail: Mark, before: Mark) -> Mark:
    """How far a sweep got with `page`, given where the tail stands and stood `before` the read.

    The page has everything up to `page.next`; an empty one says only that there was nothing up to `before`.
    """
    if page.next >= tail.position:
        return tail
    return _end(page) if page.records else before
