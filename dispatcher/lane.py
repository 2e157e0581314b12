"""A lane: the deliveries of one Trigger from one partition, and what is durable about them.

Every position that the Trigger matched is in exactly one of these, in the order of the log:

    settled and recorded │ pending: sent, to be sent again,   │ queue: to be sent │ not read yet
                         │ or behind an event of its key      │                   │
                         │ done: settled, not recorded yet    │                   │
                         └─ sent and done: at most `window` ──┘

The lane decides and counts; it does no I/O. Its partition feeds it, runs its jobs and records it.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeGuard

from channels.records import CursorRecord, DeliveryRecord, DeliveryState, Mark, ParkedRef
from dispatcher.dispatch import Job
from dispatcher.pacing import KeyGate, Pace
from dispatcher.services import LaneReport
from eventing.routing import Order

if TYPE_CHECKING:
    from asyncio import TimerHandle
    from collections.abc import Iterable, Sequence

    from channels.records import Record, RemoveDelivery, TailRecord
    from dispatcher.budget import ByteBudget
    from dispatcher.catch_up import CatchUp
    from dispatcher.dispatch import Place, Settlement
    from dispatcher.parked import ParkedQueue
    from eventing.routing import TriggerRoute

MIN_QUEUE = 256
"""A lane queues at least a page, so that a sweep that reads one is not stopped by a small window."""


class Partition(Protocol):
    """What a lane needs of the partition that it belongs to."""

    @property
    def running(self) -> bool:
        """Whether deliveries may be started: not before the partition runs, nor when it stops."""
        ...

    def start_job(self, lane: Lane, job: Job) -> None:
        """Make a delivery; `lane.settle` or `lane.put_back` follows."""
        ...

    def start_redelivery(self, lane: Lane, ref: ParkedRef) -> None:
        """Fetch a parked delivery and make it; `lane.settle`, `put_back`, `gone` or `postpone` follows."""
        ...

    def wake(self, lane: Lane, delay: float) -> TimerHandle:
        """Call `lane.awake` in `delay` seconds."""
        ...

    def parking(self, lane: Lane) -> None:
        """The lane has a parked delivery to be woken for."""
        ...

    def changed(self, lane: Lane, *, urgent: bool) -> None:
        """There is something to record about the lane; at once if `urgent`."""
        ...

    def wants_records(self) -> None:
        """A lane that is not at the tail has room again."""
        ...


class Lane:
    """See the module. `read` is how far the lane was fed; at the tail that is the tail's place, not this one."""

    def __init__(
        self,
        partition: Partition,
        place: Place,
        route: TriggerRoute,
        budget: ByteBudget,
        parked: ParkedQueue,
        catch_up: CatchUp,
    ) -> None:
        self.route = route
        self.at_tail = False
        self.read = Mark(0)
        self.stored: CursorRecord | None = None
        self.done: list[Settlement] = []
        self.parked = parked
        self.closed = False
        self.skipped = 0
        self._starved = False
        self._base = Mark(0)
        self._partition = partition
        self._place = place
        self._budget = budget
        self._catch_up = catch_up
        self._queue: deque[Record] = deque()
        self._pending: dict[int, Record] = {}
        self._flying: set[int] = set()
        self._resend: deque[int] = deque()
        self._ready: deque[int] = deque()
        self._redelivering: set[str] = set()
        self._gate = KeyGate(route.order)
        self._pace = Pace(route.rate)
        self._alarm: TimerHandle | None = None

    # --- what it is doing -----------------------------------------------------------------------------------------

    @property
    def held(self) -> bool:
        """Whether nothing may be sent now."""
        return bool(self.route.held) or self.route.subscriber is None

    @property
    def wants_records(self) -> bool:
        """Whether a sweep should take this lane along: it lags, may send, and half of what it may hold is free."""
        return not (self.at_tail or self.held or self._starved) and self._unsent <= self._queue_limit // 2

    @property
    def next_due(self) -> float | None:
        """When the next parked delivery is due (Unix s)."""
        return self.parked.next_due

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way, to be recorded, or remembered apart from the tail."""
        return self.at_tail and self.stored is None and not (self._pending or self._queue or self.done)

    def report(self, tail: Mark) -> LaneReport:
        """What it is doing, for the Trigger's status."""
        parked = _rough(self.parked.count)
        if self.at_tail and len(self._queue) < MIN_QUEUE and self._alarm is None:
            # It keeps up. What is in its queue for a moment is not worth a write of the status.
            return LaneReport("", 0, parked, self.skipped)
        behind = _rough(tail.position - self.mark(tail).position)
        return LaneReport(self._doing(), behind, parked, self.skipped)

    def _doing(self) -> str:
        if self.route.held:
            return f"held: {self.route.held}"
        if self._alarm is not None:
            return "waiting for its rate, or as long as the subscriber asked"
        if self._in_window >= self.route.max_in_flight and self.parked.full:
            return f"stopped: {self.parked.count} deliveries of {self.parked.size} bytes are parked, which is the bound"
        if self._in_window >= self.route.max_in_flight:
            return "waiting for the subscriber: as many deliveries as allowed are in flight"
        return "" if self.at_tail else "catching up"

    @property
    def _queue_limit(self) -> int:
        return max(MIN_QUEUE, 2 * self.route.max_in_flight)

    @property
    def _unsent(self) -> int:
        """How many records it holds that are not out: one count for what it takes and for what it asks for. With two, it
        would ask for records that it does not take, without end.
        """
        return len(self._queue) + self._gate.waiting + len(self._resend) + len(self._ready)

    @property
    def _in_window(self) -> int:
        return len(self._flying) + len(self._redelivering) + len(self.done)

    @property
    def _room(self) -> int:
        """How many deliveries may be started now."""
        room = self.route.max_in_flight - self._in_window
        if self.at_tail or room <= 0:
            return room
        return room if self._catch_up.may_send(self.pump) else 0

    # --- being fed ------------------------------------------------------------------------------------------------

    def offer(self, record: Record) -> bool:
        """Take a record that matched. False when there is no room: the lane must then be fed from here again."""
        if self._unsent >= self._queue_limit:
            return False
        if not self._budget.take(record.event.size, self._fed_again):
            self._starved = True
            return False
        self._queue.append(record)
        self.pump()
        return True

    def _fed_again(self) -> None:
        self._starved = False
        self._partition.wants_records()

    def resume(self, mark: Mark, stored: CursorRecord | None, owed: Iterable[Record], *, at_tail: bool) -> None:
        """Go on where the state says. What is `owed` was pending there, and is sent again first."""
        self.read = self._base = mark
        self.stored = stored
        self.at_tail = at_tail
        for record in owed:
            self._budget.force(record.event.size)
            self._pending[record.position] = record
            self._resend.append(record.position)

    def leave_tail(self, read: Mark) -> None:
        """Fall behind: everything after `read` comes from a sweep."""
        self.at_tail = False
        self.read = read
        self._partition.changed(self, urgent=False)

    def skip_to(self, first: int) -> int:
        """Retention removed everything below `first`: go on there. Returns how many positions at most were skipped."""
        skipped = max(0, first - 1 - self.read.position)
        if skipped:
            self.read = Mark(first - 1)
            self.skipped += skipped
        return skipped

    def close(self) -> None:
        """The Trigger is gone: hold nothing any more. Attempts that are under way end on their own."""
        self.route = replace(self.route, held="the Trigger was deleted")
        self._budget.give_back(
            sum(record.event.size for record in self._queue)
            + sum(record.event.size for record in self._pending.values())
        )
        self._queue.clear()
        self._pending.clear()
        self._resend.clear()
        self._ready.clear()
        self.parked.clear()
        self._stop_sleeping()
        self.closed = True

    def reroute(self, route: TriggerRoute, tail: Mark) -> None:
        """Go on with a changed Trigger. One that is held gives its queue back to the log and keeps its place."""
        self.route = route
        self._pace.change(route.rate)
        self._stop_sleeping()
        if self.held:
            self._unqueue(tail)
            return
        self._start_over()
        self.pump()
        self._partition.wants_records()

    def _start_over(self) -> None:
        """Arrange anew what is pending and not out, in the order of the log: after a hold, or with another order."""
        self._gate = KeyGate(self.route.order)
        for position in self._flying:
            self._gate.occupy(self._pending[position].event)
        self._ready.clear()
        self._resend = deque(sorted(self._pending.keys() - self._flying))

    def _unqueue(self, tail: Mark) -> None:
        if self.at_tail:
            self.leave_tail(tail)
        if self._queue:
            self.read = Mark(self._queue[0].position - 1)
            self._budget.give_back(sum(record.event.size for record in self._queue))
            self._queue.clear()
            self._partition.changed(self, urgent=False)

    # --- sending --------------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Start what may be sent: first what is owed from before, then what is due again, then what is new.

        What comes back from the delivery store takes at most half of the window while new events wait, so that neither
        starves the other.
        """
        if self.held or not self._partition.running:
            return
        while self._resend and self._room > 0 and self._may_go():
            self._go_in_turn(self._pending[self._resend.popleft()])
        while (ref := self.parked.peek()) and self._room > 0 and not self._crowded() and self._may_go():
            self._pace.take()
            self._redelivering.add(self.parked.pop().id)
            self._partition.start_redelivery(self, ref)
        while self._ready and self._room > 0 and self._may_go():
            self._go(self._pending[self._ready.popleft()])
        while self._queue and self._room > 0 and (self._must_wait(self._queue[0]) or self._may_go()):
            record = self._queue.popleft()
            self._pending[record.position] = record
            self._go_in_turn(record)
        if self.wants_records:
            self._partition.wants_records()

    def awake(self) -> None:
        """The time has come that `Partition.wake` was asked for."""
        self._alarm = None
        self.pump()

    def _stop_sleeping(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _may_go(self) -> bool:
        """Whether the Trigger's rate, and its subscriber, allow a delivery now; else the lane is woken when they do."""
        delay = self._pace.wait(time.monotonic())
        if delay and self._alarm is None:
            self._alarm = self._partition.wake(self, delay)
        return not delay

    def _must_wait(self, record: Record) -> bool:
        return self._gate.is_busy(record.event)

    def _go_in_turn(self, record: Record) -> bool:
        """Send the record, unless it has to wait for one of its key."""
        goes = self._gate.enter(record)
        if goes:
            self._go(record)
        return goes

    def _go(self, record: Record) -> None:
        self._pace.take()
        self._flying.add(record.position)
        if self.at_tail:
            self._catch_up.others += 1
        self._partition.start_job(self, Job.of_record(self._place, record))

    def _crowded(self) -> bool:
        return bool(self._queue) and len(self._redelivering) >= max(1, self.route.max_in_flight // 2)

    def pause(self, seconds: float) -> None:
        """The subscriber asked for a pause (`Retry-After`): nothing goes to it meanwhile."""
        self._pace.pause(time.monotonic() + seconds)

    def may_park(self) -> bool:
        """Whether a delivery may go to the delivery store to wait. Not past the bound, and not where an order is asked
        for: a later event of its key would overtake it.
        """
        return self.route.order is Order.NONE and not self.parked.full

    def settle(self, job: Job, settlement: Settlement) -> None:
        """A delivery came to its end; it counts once it is recorded."""
        if self.closed:
            return
        self._forget(job)
        self.done.append(settlement)
        if any(map(_is_parked, settlement.changes)):
            self.parked.stored(job.event.size)
        if job.stored is not None:
            self.parked.removed(job.event.size)
        half_full = 2 * len(self.done) >= self.route.max_in_flight
        urgent = settlement.reply is not None or (half_full and (self.at_tail or self._catch_up.alone))
        self._partition.changed(self, urgent=urgent)
        # While it catches up, what is in flight bounds it, and not only what is to be recorded.
        if self._ready or not self.at_tail:
            self.pump()

    def put_back(self, job: Job) -> None:
        """A delivery was not settled since the lane is held (or Penstock stops): it is sent again later."""
        if self.closed:
            return
        if job.stored is not None:
            self._forget(job)
            self.park(ParkedRef(job.stored.id, job.stored.due, job.event.size))
        else:
            self._flying.discard(job.position)
            if not self.held:
                # It was held only for a moment, and goes on.
                self._start_over()
                self.pump()

    def gone(self, ref: ParkedRef) -> None:
        """A parked delivery is no longer in the store: somebody removed it."""
        self._redelivering.discard(ref.id)
        self.parked.removed(ref.size)
        self._partition.changed(self, urgent=False)
        self.pump()

    def postpone(self, ref: ParkedRef) -> None:
        """A parked delivery could not be fetched: it is due again at `ref.due`."""
        self._redelivering.discard(ref.id)
        self.park(ref)

    def _forget(self, job: Job) -> None:
        if job.stored is not None:
            self._redelivering.discard(job.stored.id)
            return
        event = self._pending.pop(job.position).event
        self._flying.discard(job.position)
        self._budget.give_back(event.size)
        follower = self._gate.leave(event)
        if follower is not None:
            self._ready.append(follower.position)

    # --- parked deliveries ----------------------------------------------------------------------------------------

    def park(self, ref: ParkedRef) -> None:
        """Remember a parked delivery. Only the next ones are kept; the rest is asked for when those are through."""
        if self.parked.add(ref, self._queue_limit):
            self._partition.parking(self)

    def take_due(self, now: float) -> None:
        """Send what is due by `now` (Unix s), as far as the window allows."""
        self.parked.take_due(now)
        self.pump()

    def refill(self, refs: Sequence[ParkedRef], *, more: bool) -> None:
        """Take what the delivery store has of this lane; `more` says that it has others."""
        self.parked.refill([ref for ref in refs if ref.id not in self._redelivering], self._queue_limit, more=more)
        if self.parked.next_due is not None:
            self._partition.parking(self)

    # --- being recorded -------------------------------------------------------------------------------------------

    def cursor(self, tail: Mark) -> CursorRecord | None:
        """What the state must say of this lane, None when it stands at the tail with nothing under way."""
        if self.at_tail and not self._pending and not self._queue:
            return None
        place = self._place
        return CursorRecord(
            self.route.uid, place.log, place.partition, place.incarnation, self.mark(tail), tuple(sorted(self._pending))
        )

    def mark(self, tail: Mark) -> Mark:
        """Up to where everything is settled but what is pending."""
        if self._queue:
            return Mark(self._queue[0].position - 1)
        return tail if self.at_tail else self.read

    def needs_from(self, tail: TailRecord) -> int:
        """The first position that may have to be read again after a crash now, by what is durable."""
        if self.stored is not None:
            return min(self.stored.pending, default=self.stored.mark.position + 1)
        return (tail.mark if self.route.uid in tail.members else self._base).position + 1

    def recorded(self, count: int, stored: CursorRecord | None) -> None:
        """The first `count` settlements, and `stored`, are durable: their places in the window are free."""
        for settlement in self.done[:count]:
            self._note_parked(settlement)
        del self.done[:count]
        self.stored = stored
        self.pump()

    def _note_parked(self, settlement: Settlement) -> None:
        for change in settlement.changes:
            if _is_parked(change):
                self.park(ParkedRef(change.id, change.due, change.event.size))


def _rough(number: int) -> int:
    """Two digits of it, rounded up: a status that follows every event would cost more than the events."""
    unit: int = 10 ** max(0, len(str(max(0, number))) - 2)
    return -(-max(0, number) // unit) * unit


def _is_parked(change: DeliveryRecord | RemoveDelivery) -> TypeGuard[DeliveryRecord]:
    return isinstance(change, DeliveryRecord) and change.state is DeliveryState.RETRYING
