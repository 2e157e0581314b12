"""A lane: the deliveries of one Trigger from one partition, and what is durable about them.

Every position that the Trigger matched is in exactly one of these, in the order of the log:

    settled and recorded │ pending: sent, or to be sent again │ queue: to be sent │ not read yet
                         │ done: settled, not recorded yet    │                   │
                         └───────── at most `window` ─────────┘

The lane decides and counts; it does no I/O. Its partition feeds it, runs its jobs and records it.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from channels.records import CursorRecord, DeliveryRecord, DeliveryState, Mark, ParkedRef
from dispatcher.dispatch import Job

if TYPE_CHECKING:
    from collections.abc import Iterable

    from channels.records import Record, TailRecord
    from dispatcher.budget import ByteBudget
    from dispatcher.dispatch import Place, Settlement
    from eventing.routing import TriggerRoute

MIN_QUEUE = 256
"""A lane queues at least a page, so that a sweep that reads one is not stopped by a small window."""


class Partition(Protocol):
    """What a lane needs of the partition that it belongs to."""

    def start_job(self, lane: Lane, job: Job) -> bool:
        """Run a delivery; `lane.settle` or `lane.put_back` follows. False when nothing may be sent now."""
        ...

    def start_redelivery(self, lane: Lane, ref: ParkedRef) -> bool:
        """Fetch a parked delivery and run it; `lane.settle`, `put_back`, `gone` or `postpone` follows. False as above."""
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

    def __init__(self, partition: Partition, place: Place, route: TriggerRoute, budget: ByteBudget) -> None:
        self.route = route
        self.at_tail = False
        self.read = Mark(0)
        self.stored: CursorRecord | None = None
        self.done: list[Settlement] = []
        self.more_parked = False
        self.closed = False
        self._starved = False
        self._base = Mark(0)
        self._partition = partition
        self._place = place
        self._budget = budget
        self._queue: deque[Record] = deque()
        self._pending: dict[int, Record] = {}
        self._resend: deque[int] = deque()
        self._parked: list[tuple[float, str]] = []
        self._due: deque[ParkedRef] = deque()
        self._redelivering: set[str] = set()

    # --- what it is doing -----------------------------------------------------------------------------------------

    @property
    def held(self) -> bool:
        """Whether nothing may be sent now."""
        return bool(self.route.held) or self.route.subscriber is None

    @property
    def wants_records(self) -> bool:
        """Whether a sweep should take this lane along: it lags, may send, and at most half of its queue is in use."""
        return not (self.at_tail or self.held or self._starved) and len(self._queue) <= self._queue_limit // 2

    @property
    def unsettled(self) -> int:
        """How many deliveries are sent, or are to be sent again, and not settled."""
        return len(self._pending) + len(self._redelivering)

    @property
    def next_due(self) -> float | None:
        """When the next parked delivery is due (Unix s)."""
        return self._parked[0][0] if self._parked else None

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way, to be recorded, or remembered apart from the tail."""
        return self.at_tail and self.stored is None and not (self._pending or self._queue or self.done)

    @property
    def _queue_limit(self) -> int:
        return max(MIN_QUEUE, 2 * self.route.max_in_flight)

    @property
    def _in_window(self) -> int:
        return len(self._pending) + len(self._redelivering) + len(self.done)

    # --- being fed ------------------------------------------------------------------------------------------------

    def offer(self, record: Record) -> bool:
        """Take a record that matched. False when there is no room: the lane must then be fed from here again."""
        if len(self._queue) >= self._queue_limit:
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
        self._parked.clear()
        self._due.clear()
        self.closed = True

    def reroute(self, route: TriggerRoute, tail: Mark) -> None:
        """Go on with a changed Trigger. One that is held gives its queue back to the log and keeps its place."""
        self.route = route
        if self.held:
            self._unqueue(tail)
            return
        self.pump()
        self._partition.wants_records()

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
        if self.held:
            return
        while self._resend and self._start(self._pending[self._resend[0]]):
            self._resend.popleft()
        window = self.route.max_in_flight
        while self._due and self._in_window < window and not self._crowded(window):
            if not self._partition.start_redelivery(self, self._due[0]):
                break
            ref = self._due.popleft()
            self._redelivering.add(ref.id)
        while self._queue and self._in_window < window and self._start(self._queue[0]):
            record = self._queue.popleft()
            self._pending[record.position] = record
        if self.wants_records:
            self._partition.wants_records()

    def _start(self, record: Record) -> bool:
        return self._partition.start_job(self, Job.of_record(self._place, record))

    def _crowded(self, window: int) -> bool:
        return bool(self._queue) and len(self._redelivering) >= max(1, window // 2)

    def settle(self, job: Job, settlement: Settlement) -> None:
        """A delivery came to its end; it counts once it is recorded."""
        if self.closed:
            return
        self._forget(job)
        self.done.append(settlement)
        urgent = settlement.reply is not None or 2 * len(self.done) >= self.route.max_in_flight
        self._partition.changed(self, urgent=urgent)

    def put_back(self, job: Job) -> None:
        """A delivery was not settled since the lane is held (or Penstock stops): it is sent again later."""
        if self.closed:
            return
        if job.stored is not None:
            self._forget(job)
            self.park(ParkedRef(job.stored.id, job.stored.due))
        else:
            self._resend.append(job.position)

    def gone(self, ref: ParkedRef) -> None:
        """A parked delivery is no longer in the store: somebody removed it."""
        self._redelivering.discard(ref.id)
        self._partition.changed(self, urgent=False)
        self.pump()

    def postpone(self, ref: ParkedRef) -> None:
        """A parked delivery could not be fetched: it is due again at `ref.due`."""
        self._redelivering.discard(ref.id)
        self.park(ref)

    def _forget(self, job: Job) -> None:
        if job.stored is not None:
            self._redelivering.discard(job.stored.id)
        else:
            self._budget.give_back(self._pending.pop(job.position).event.size)

    # --- parked deliveries ----------------------------------------------------------------------------------------

    def park(self, ref: ParkedRef) -> None:
        """Remember a parked delivery. Only the next ones are kept; the rest is asked for when those are through."""
        if len(self._parked) >= self._queue_limit:
            self.more_parked = True
            return
        heapq.heappush(self._parked, (ref.due, ref.id))
        if self._parked[0][1] == ref.id:
            self._partition.parking(self)

    def take_due(self, now: float) -> None:
        """Send what is due by `now` (Unix s), as far as the window allows."""
        while self._parked and self._parked[0][0] <= now:
            due, delivery = heapq.heappop(self._parked)
            self._due.append(ParkedRef(delivery, due))
        self.pump()

    @property
    def wants_parked(self) -> bool:
        """Whether more parked deliveries should be asked for from the store."""
        return self.more_parked and not self._parked and not self._due

    def knows_parked(self, delivery: str) -> bool:
        """Whether a parked delivery is remembered or on its way."""
        return (
            delivery in self._redelivering
            or any(ref.id == delivery for ref in self._due)
            or any(known == delivery for _, known in self._parked)
        )

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
            if isinstance(change, DeliveryRecord) and change.state is DeliveryState.RETRYING:
                self.park(ParkedRef(change.id, change.due))
