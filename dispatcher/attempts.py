"""The deliveries of a partition that are under way.

Most deliveries need one attempt, on a connection that is idle already. Such an attempt gets no task of its own: the lane
settles in the callback of its answer. Everything else (no idle connection, a failure, a reply) is a task that runs
`dispatch`, which goes on where the first attempt ended.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from channels.errors import ChannelError
from channels.records import DeliveryState
from dispatcher.dispatch import Job, Made, Settlement, dispatch, first_request
from dispatcher.judge import Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from channels.driver import State
    from channels.records import ParkedRef
    from dispatcher.dispatch import Place
    from dispatcher.lane import Lane
    from dispatcher.outcome import Outcome
    from dispatcher.services import Services, UnderWay

log = structlog.get_logger()

_SETTLED = Settlement()


class _End(asyncio.Event):
    """Set when no attempt may begin any more: when it was told, or by the first who looks after `may_start` said no."""

    def __init__(self, may_start: Callable[[], bool]) -> None:
        super().__init__()
        self._may_start = may_start
        self._over = False

    def set(self) -> None:
        self._over = True
        super().set()

    def is_set(self) -> bool:
        if not self._over and not self._may_start():
            self.set()
        return self._over


class Attempts:
    """Runs deliveries in the task group that `run` was given, until `stop`, or until `may_start` says no."""

    def __init__(self, state: State, place: Place, services: Services, may_start: Callable[[], bool]) -> None:
        self._state = state
        self._place = place
        self._services = services
        self._group: asyncio.TaskGroup | None = None
        self._stopping = _End(may_start)
        self._tasks: set[asyncio.Task[None]] = set()
        self._firsts: set[_First] = set()
        self._quiet = asyncio.Event()

    def run(self, group: asyncio.TaskGroup) -> None:
        """Begin to run deliveries."""
        self._group = group

    def stop(self) -> None:
        """Begin no more: what backs off ends unsettled, what is being answered is still judged."""
        self._stopping.set()

    async def ended(self) -> None:
        """Return once no attempt may begin any more."""
        await self._stopping.wait()

    async def drain(self, grace: float) -> int:
        """Wait up to `grace` seconds for what is under way; give up the rest, and return how many that were."""
        self._look_whether_quiet()
        try:
            async with asyncio.timeout(grace):
                await self._quiet.wait()
        except TimeoutError:
            late: list[asyncio.Task[None] | _First] = [*self._tasks, *self._firsts]
            for one in late:
                one.cancel()
            return len(late)
        return 0

    def _look_whether_quiet(self) -> None:
        if self._stopping.is_set() and not self._tasks and not self._firsts:
            self._quiet.set()

    @property
    def running(self) -> bool:
        """Whether deliveries may be started: after `run` and before `stop`."""
        return self._group is not None and not self._stopping.is_set()

    def start(self, lane: Lane, job: Job) -> None:
        """Make a delivery while `running`; `lane.settle` or `lane.put_back` follows."""
        if not self._begin(lane, job):
            self._spawn(self._deliver(lane, job, None))

    def start_redelivery(self, lane: Lane, ref: ParkedRef) -> None:
        """Fetch a parked delivery and make it; `lane.settle`, `put_back`, `gone` or `postpone` follows."""
        self._spawn(self._redeliver(lane, ref))

    def _begin(self, lane: Lane, job: Job) -> bool:
        route, begin = lane.route, self._services.begin
        if begin is None or route.subscriber is None:
            return False
        request = first_request(job, route)
        first = _First(self, lane, job, route.subscriber.url)
        first.under_way = begin(
            route.subscriber, request.head, request.body, timeout=route.delivery.timeout, done=first.answered
        )
        if first.under_way is None:
            return False
        self._firsts.add(first)
        return True

    def answered(self, first: _First, outcome: Outcome | None) -> None:
        """A first attempt has come to its end."""
        self._firsts.discard(first)
        if outcome is None:
            # The connection had been closed while it was idle: nothing was heard of the subscriber.
            self._spawn(self._deliver(first.lane, first.job, None))
            return
        judgement = judge(outcome, wants_reply=True)
        if judgement.verdict is Verdict.DONE:
            first.lane.settle(first.job, _SETTLED)
            self._look_whether_quiet()
        else:
            made = Made(judgement, outcome, first.url, first.time)
            self._spawn(self._deliver(first.lane, first.job, made))

    def _spawn(self, delivery: Coroutine[None, None, None]) -> None:
        if self._group is None:
            raise RuntimeError("run() comes before a delivery")
        task = self._group.create_task(delivery)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._look_whether_quiet()

    async def _deliver(self, lane: Lane, job: Job, first: Made | None) -> None:
        services = self._services
        settlement = await dispatch(job, lane, services.post, services.settings, self._stopping, first)
        if settlement is None:
            lane.put_back(job)
        else:
            lane.settle(job, settlement)

    async def _redeliver(self, lane: Lane, ref: ParkedRef) -> None:
        try:
            stored = await self._state.get_delivery(ref.id)
        except ChannelError as error:
            log.warning("a parked delivery could not be read; trying again", error=str(error), delivery=ref.id)
            lane.postpone(ref._replace(due=time.time() + self._services.settings.store_retry))
            return
        if stored is None or stored.state is DeliveryState.DEAD:
            lane.gone(ref)
        else:
            await self._deliver(lane, Job(self._place, stored.position, stored.event, stored), None)


class _First:
    """A first attempt that is under way without a task."""

    __slots__ = ("job", "lane", "owner", "time", "under_way", "url")

    def __init__(self, owner: Attempts, lane: Lane, job: Job, url: str) -> None:
        self.owner = owner
        self.lane = lane
        self.job = job
        self.url = url
        self.time = time.time()
        self.under_way: UnderWay | None = None

    def answered(self, outcome: Outcome | None) -> None:
        self.owner.answered(self, outcome)

    def cancel(self) -> None:
        if self.under_way is not None:
            self.under_way.abandon()
