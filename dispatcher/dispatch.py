"""One delivery, from its first attempt to its settlement.

    Job ──► attempt at the subscriber ─┬─ 2xx ────────────────────────────────► settled
              ▲                        ├─ 2xx with a CloudEvent ──────────────► settled once the reply is stored
              │ back off               ├─ retryable, tries left ─┬─ soon ──┐
              └────────────────────────┼─────────────────────────┼─────────┘
                                       │                         └─ later ────► parked in the delivery store
                                       └─ terminal or exhausted
                                             │ no sink ───────────────────────► dead in the delivery store
                                             ▼
            attempt at the dead letter sink ─┬─ 2xx ──────────────────────────► settled
              ▲ back off                     ├─ retryable ─► soon or later, as above
              └──────────────────────────────┴─ terminal or exhausted ────────► dead in the delivery store

`dispatch` returns a `Settlement`: what has to be durable before the event counts as settled for its Trigger. It stores
nothing itself; the partition commits settlements in groups. There is no way out on which the event is neither
delivered nor in a settlement, except being told to stop, and then the position stays pending in the cursor.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import msgspec

from channels.records import Attempt, DeliveryRecord, DeliveryState, Failure, Phase, RemoveDelivery, delivery_id
from dispatcher.judge import Judgement, Verdict, judge
from dispatcher.request import Request, dead_letter_request, subscriber_request
from eventing import http_binding
from eventing.delivery import Destination, backoff
from eventing.errors import InvalidEvent
from eventing.timestamps import rfc3339

if TYPE_CHECKING:
    from channels.records import LogName, Record
    from dispatcher.outcome import Outcome
    from dispatcher.settings import DispatchSettings
    from eventing.delivery import DeliverySpec
    from eventing.event import Event
    from eventing.routing import TriggerRoute


class Post(Protocol):
    """How an attempt is made: `dispatcher.sender.Sender.post`."""

    async def __call__(self, destination: Destination, head: bytes, body: bytes, *, timeout: float) -> Outcome:  # noqa: ASYNC109 - the Sender itself keeps the time, to the byte
        """Make one attempt; every way to end is an Outcome."""
        ...


class Recipient(Protocol):
    """Whom a delivery is for: a `dispatcher.lane.Lane`."""

    @property
    def route(self) -> TriggerRoute:
        """The Trigger as it is now: asked before each attempt, so that a change takes effect."""
        ...

    def pause(self, seconds: float) -> None:
        """The subscriber asked for a pause (`Retry-After`): nothing goes to it meanwhile."""
        ...

    def may_park(self) -> bool:
        """Whether the delivery may go to the delivery store to wait for its next attempt."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Which log and partition a job comes from, and the largest reply that the log takes (bytes)."""

    log: LogName
    incarnation: str
    partition: int
    max_event_bytes: int


class Job(msgspec.Struct, frozen=True):
    """A delivery to make: a record just read, or (`stored`) one that comes back from the delivery store."""

    place: Place
    position: int
    event: Event
    stored: DeliveryRecord | None = None

    @classmethod
    def of_record(cls, place: Place, record: Record) -> Job:
        return cls(place, record.position, record.event)


class Settlement(msgspec.Struct, frozen=True):
    """What must be durable before the delivery counts as settled: a reply to append, a change of the delivery store.

    `cause` is the id of the delivery that a reply answers.
    """

    reply: Event | None = None
    changes: tuple[DeliveryRecord | RemoveDelivery, ...] = ()
    cause: str = ""


class Made(msgspec.Struct, frozen=True):
    """An attempt that was made: what came of it, what it means, whom it went to and when it began (Unix s)."""

    judgement: Judgement
    outcome: Outcome
    url: str
    began: float


@dataclass(slots=True)
class _Progress:
    """Where a delivery stands between its attempts."""

    phase: Phase
    tries: int
    attempts: tuple[Attempt, ...]
    failure: Failure | None
    created: float


async def dispatch(
    job: Job,
    recipient: Recipient,
    post: Post,
    settings: DispatchSettings,
    stopping: asyncio.Event,
    first: Made | None = None,
) -> Settlement | None:
    """Deliver `job` to the Trigger of `recipient`.

    `first` is the first attempt where it was made already. Returns None only when `stopping` was set, or the Trigger is
    held, before the delivery was settled.
    """
    began = time.monotonic() - (max(0.0, time.time() - first.began) if first is not None else 0.0)
    progress = _begin(job)
    while first is not None or not stopping.is_set():
        trigger = recipient.route
        if trigger.held or trigger.subscriber is None:
            return None
        if progress.phase is Phase.DEAD_LETTER_SINK and trigger.dead_letter_sink is None:
            return _dead(job, trigger, progress, "the dead letter sink was removed")
        made = first or await _attempt(job, trigger, progress, post)
        first = None
        judgement = _note(progress, made, settings)
        if judgement.verdict is Verdict.DONE:
            return _settled(job)
        if judgement.verdict is Verdict.REPLIED and judgement.reply is not None:
            settlement, judgement = _take_reply(job, trigger, judgement, progress)
            if settlement is not None:
                return settlement
        spec = trigger.delivery
        if judgement.verdict is Verdict.RETRY and progress.tries <= spec.retry:
            delay = backoff(spec, progress.tries, jitter=random.random(), retry_after=judgement.retry_after)  # noqa: S311 - jitter, not a secret
            _tell_pause(recipient, judgement, spec)
            late = time.monotonic() - began + delay >= settings.park_after
            if job.stored is not None or (late and recipient.may_park()):
                return _parked(job, trigger, progress, time.time() + delay)
            await _sleep(delay, stopping)
        elif progress.phase is Phase.SUBSCRIBER and trigger.dead_letter_sink is not None:
            progress.failure = _failure(trigger.subscriber.url, judgement)
            progress.phase, progress.tries = Phase.DEAD_LETTER_SINK, 0
        else:
            return _dead(job, trigger, progress, _why_dead(trigger, judgement, progress))
    return None


def _tell_pause(recipient: Recipient, judgement: Judgement, spec: DeliverySpec) -> None:
    """A subscriber that says `Retry-After` speaks for all that would be sent to it."""
    if judgement.retry_after is not None and spec.retry_after_max is not None:
        recipient.pause(min(judgement.retry_after, spec.retry_after_max))


def _begin(job: Job) -> _Progress:
    if job.stored is None:
        return _Progress(Phase.SUBSCRIBER, 0, (), None, time.time())
    stored = job.stored
    return _Progress(stored.phase, stored.tries, stored.attempts, stored.failure, stored.created)


async def _attempt(job: Job, trigger: TriggerRoute, progress: _Progress, post: Post) -> Made:
    destination, request = _request(job, trigger, progress)
    began = time.time()
    outcome = await post(destination, request.head, request.body, timeout=trigger.delivery.timeout)
    judgement = judge(outcome, wants_reply=progress.phase is Phase.SUBSCRIBER)
    return Made(judgement, outcome, destination.url, began)


def _note(progress: _Progress, made: Made, settings: DispatchSettings) -> Judgement:
    """Count an attempt, and keep it if it failed."""
    progress.tries += 1
    if made.judgement.verdict in (Verdict.RETRY, Verdict.FAILED):
        outcome = made.outcome
        attempt = Attempt(
            made.began, outcome.duration, made.url, outcome.result.value, outcome.status, made.judgement.reason
        )
        progress.attempts = (*progress.attempts, attempt)[-settings.max_attempts_kept :]
    return made.judgement


def first_request(job: Job, trigger: TriggerRoute) -> Request:
    """The request of the first attempt of a delivery."""
    return subscriber_request(job.event, trigger.name.namespace, trigger.delivery.format)


def _request(job: Job, trigger: TriggerRoute, progress: _Progress) -> tuple[Destination, Request]:
    namespace, form = trigger.name.namespace, trigger.delivery.format
    if progress.phase is Phase.DEAD_LETTER_SINK and trigger.dead_letter_sink is not None and progress.failure:
        return trigger.dead_letter_sink, dead_letter_request(job.event, progress.failure, namespace, form)
    if trigger.subscriber is None:
        raise RuntimeError("a held Trigger is not dispatched to")
    return trigger.subscriber, subscriber_request(job.event, namespace, form)


def _settled(job: Job) -> Settlement:
    return Settlement(changes=(RemoveDelivery(job.stored.id),)) if job.stored else Settlement()


def _take_reply(
    job: Job, trigger: TriggerRoute, judgement: Judgement, progress: _Progress
) -> tuple[Settlement | None, Judgement]:
    """The settlement of a reply, or None and a judgement where the reply makes its cause a failed delivery."""
    if judgement.reply is None:
        return None, judgement
    done = _settled(job)
    try:
        reply = http_binding.admit_reply(judgement.reply, arrival=rfc3339(time.time()), cause_ttl=job.event.ttl)
    except InvalidEvent as error:
        if error.attribute != "knativebrokerttl":
            return None, msgspec.structs.replace(
                judgement, verdict=Verdict.RETRY, code=502, reason=f"the reply is invalid: {error}"
            )
        looped = _stopped_reply(job, trigger, judgement, progress, str(error))
        return Settlement(changes=(*done.changes, looped)), judgement
    if reply.size > job.place.max_event_bytes:
        reason = f"the reply has {reply.size} bytes, the channel takes {job.place.max_event_bytes}"
        return None, Judgement(Verdict.FAILED, code=413, reason=reason)
    place = job.place
    cause = delivery_id(place.incarnation, place.partition, job.position, trigger.uid)
    return Settlement(reply, done.changes, cause), judgement


def _stopped_reply(
    job: Job, trigger: TriggerRoute, judgement: Judgement, progress: _Progress, reason: str
) -> DeliveryRecord:
    """The record that keeps a reply which may not pass the Broker again: its cause went through too many of them."""
    if judgement.reply is None:
        raise RuntimeError("there is no reply to keep")
    # The highest time to live that can be written keeps the binding's own check from refusing what is only kept.
    event = http_binding.admit_reply(judgement.reply, arrival=rfc3339(time.time()), cause_ttl=2)
    place = job.place
    record = _record(job, trigger, progress, DeliveryState.DEAD, due=0.0, reason=reason)
    reply_id = delivery_id(place.incarnation, place.partition, job.position, trigger.uid, "reply")
    return replace(record, id=reply_id, event=msgspec.structs.replace(event, ttl=0))


def _failure(dest: str, judgement: Judgement) -> Failure:
    return Failure(dest, judgement.code, judgement.data[: http_binding.MAX_ERROR_DATA], judgement.reason)


def _why_dead(trigger: TriggerRoute, judgement: Judgement, progress: _Progress) -> str:
    tries = f"after {progress.tries} attempt{'s' if progress.tries != 1 else ''}"
    if progress.failure is None:
        return f"{judgement.reason}, {tries}; the Trigger has no dead letter sink"
    sink = trigger.dead_letter_sink.url if trigger.dead_letter_sink else "the dead letter sink"
    return f"{progress.failure.reason}; then the dead letter sink {sink} failed {tries}: {judgement.reason}"


def _dead(job: Job, trigger: TriggerRoute, progress: _Progress, reason: str) -> Settlement:
    return Settlement(changes=(_record(job, trigger, progress, DeliveryState.DEAD, due=0.0, reason=reason),))


def _parked(job: Job, trigger: TriggerRoute, progress: _Progress, due: float) -> Settlement:
    return Settlement(changes=(_record(job, trigger, progress, DeliveryState.RETRYING, due=due, reason=""),))


def _record(
    job: Job, trigger: TriggerRoute, progress: _Progress, state: DeliveryState, *, due: float, reason: str
) -> DeliveryRecord:
    place = job.place
    return DeliveryRecord(
        id=job.stored.id if job.stored else delivery_id(place.incarnation, place.partition, job.position, trigger.uid),
        trigger=trigger.uid,
        trigger_name=trigger.name,
        log=place.log,
        partition=place.partition,
        position=job.position,
        event=job.event,
        state=state,
        phase=progress.phase,
        due=due,
        reason=reason,
        tries=progress.tries,
        attempts=progress.attempts,
        failure=progress.failure,
        created=progress.created,
        updated=time.time(),
    )


async def _sleep(delay: float, stopping: asyncio.Event) -> None:
    """Wait for the back-off, or until Penstock stops."""
    try:
        async with asyncio.timeout(delay):
            await stopping.wait()
    except TimeoutError:
        return
