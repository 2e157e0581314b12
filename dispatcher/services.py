"""What every partition of a process shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from dispatcher.catch_up import CatchUp

if TYPE_CHECKING:
    from collections.abc import Callable

    from dispatcher.budget import ByteBudget
    from dispatcher.dispatch import Post
    from dispatcher.outcome import Outcome
    from dispatcher.settings import DispatchSettings
    from eventing.delivery import Destination


class UnderWay(Protocol):
    """An attempt that was begun."""

    def abandon(self) -> None:
        """Give it up; nobody is told of its outcome any more."""
        ...


class Begin(Protocol):
    """How an attempt is made without a task: `dispatcher.sender.Sender.begin`."""

    def __call__(
        self,
        destination: Destination,
        head: bytes,
        body: bytes,
        *,
        timeout: float,
        done: Callable[[Outcome | None], None],
    ) -> UnderWay | None:
        """Begin it, and call `done` with its outcome, later. None, or None as the outcome, where it has to be made by
        `Post`.
        """
        ...


@dataclass(frozen=True, slots=True)
class LaneReport:
    """What the lane of a Trigger is doing, in a few words ("" for nothing worth telling), how many positions of the log
    at most lie between it and the tail, how many of its deliveries are parked, and how many positions at most it had to
    skip since Penstock started, because retention passed it.
    """

    doing: str = ""
    behind: int = 0
    parked: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Services:
    """`on_loaded(uid, partition, generation)` is told which Triggers are served, `on_lane(uid, report)` what becomes of
    them: some seconds after it changed. `on_mark(uid, per cent)` is told when the log of a Broker reaches or leaves a mark of
    `dispatcher.retention`. Without `begin` every attempt is made by `post`.
    """

    post: Post
    settings: DispatchSettings
    budget: ByteBudget
    on_loaded: Callable[[str, int, int], None]
    begin: Begin | None = None
    on_lane: Callable[[str, LaneReport], None] | None = None
    on_mark: Callable[[str, int], None] | None = None
    catch_up: CatchUp = field(default_factory=CatchUp)
