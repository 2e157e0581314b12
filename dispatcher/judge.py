"""What an attempt's outcome means for the delivery. Pure: an outcome in, a verdict out."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

import msgspec

from eventing import http_binding
from eventing.delivery import is_retryable
from eventing.errors import InvalidEvent

if TYPE_CHECKING:
    from dispatcher.outcome import Outcome
    from eventing.http_binding import Message

NO_ANSWER = 500
"""`knativeerrorcode` where no answer came: a network failure counts as a server error."""

BAD_REPLY = 502
"""`knativeerrorcode` where the answer was a success whose body cannot be understood, as the MT broker's filter has it."""


class Verdict(Enum):
    """What is to be done after an attempt."""

    DONE = auto()
    REPLIED = auto()
    RETRY = auto()
    FAILED = auto()


class Judgement(msgspec.Struct, frozen=True):
    """A verdict with its facts.

    `reply` is set for REPLIED. `code`, `data` and `reason` say why the attempt failed, for `knativeerrorcode`,
    `knativeerrordata` and people. `retry_after` is what the subscriber asked for, in seconds.
    """

    verdict: Verdict
    reply: Message | None = None
    code: int = 0
    data: bytes = b""
    reason: str = ""
    retry_after: float | None = None


_DONE = Judgement(Verdict.DONE)


def judge(outcome: Outcome, *, wants_reply: bool) -> Judgement:
    """Judge an attempt. `wants_reply` is True for a subscriber; what a dead letter sink answers with is not looked at."""
    status = outcome.status
    if status is None:
        return Judgement(Verdict.RETRY, code=NO_ANSWER, data=outcome.detail.encode(), reason=outcome.detail)
    if outcome.ok:
        return _judge_success(outcome, status) if wants_reply else _DONE
    return Judgement(
        Verdict.RETRY if is_retryable(status) else Verdict.FAILED,
        code=status,
        data=outcome.body,
        reason=f"the answer was {status}",
        retry_after=outcome.retry_after if status in (429, 503) else None,
    )


def _judge_success(outcome: Outcome, status: int) -> Judgement:
    # The specification keeps 202 for "taken, nothing to say": a CloudEvent in it is not a reply.
    if status == 202:
        return _DONE
    if not http_binding.is_event(outcome.headers):
        if not outcome.body:
            return _DONE
        reason = f"the {status} answer has a body that is no CloudEvent: answer 204, or reply with a CloudEvent"
        return Judgement(Verdict.RETRY, code=BAD_REPLY, data=outcome.body, reason=reason)
    try:
        reply = http_binding.parse(outcome.headers, outcome.body)
    except InvalidEvent as error:
        reason = f"the reply is no valid CloudEvent: {error}"
        return Judgement(Verdict.RETRY, code=BAD_REPLY, data=outcome.body, reason=reason)
    return Judgement(Verdict.REPLIED, reply=reply)
