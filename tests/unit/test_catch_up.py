"""Lanes that catch up rest while others are served."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dispatcher.catch_up import ALONE, REST, SLICE, CatchUp

if TYPE_CHECKING:
    from collections.abc import Callable


class FakeLoop:
    """A clock that moves when it is told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self.timers.append((self.now + delay, callback))

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer[0] <= self.now]
        self.timers = [timer for timer in self.timers if timer[0] > self.now]
        for _, callback in due:
            callback()


def share_of_time(others_every: float | None) -> float:
    """In which share of the time may a lane send that always wants to, while somebody else sends so often?"""
    loop = FakeLoop()
    catch_up = CatchUp(loop)
    step = SLICE / 10
    allowed, steps = 0, 20_000
    for number in range(steps):
        if others_every is not None and number % round(others_every / step) == 0:
            catch_up.others += 1
        allowed += catch_up.may_send(lambda: None)
        loop.advance(step)
    return allowed / steps


def test_alone_it_does_not_rest() -> None:
    assert share_of_time(None) == 1.0


@pytest.mark.parametrize("others_every", [SLICE, ALONE / 2])
def test_while_others_are_served_it_rests_most_of_the_time(others_every: float) -> None:
    assert share_of_time(others_every) == pytest.approx(SLICE / (SLICE + REST), rel=0.3)


def test_whoever_was_refused_is_called_again() -> None:
    loop = FakeLoop()
    catch_up = CatchUp(loop)
    called: list[str] = []
    first, second = (lambda: called.append("first")), (lambda: called.append("second"))
    catch_up.others += 1
    assert catch_up.may_send(first)
    loop.advance(SLICE)
    assert not catch_up.may_send(first)
    assert not catch_up.may_send(second)
    assert not catch_up.may_send(first)
    assert called == []
    loop.advance(REST)
    assert called == ["first", "second"]
    assert catch_up.may_send(first)


def test_it_knows_when_nobody_else_is_served() -> None:
    loop = FakeLoop()
    catch_up = CatchUp(loop)
    catch_up.others += 1
    assert not catch_up.alone
    catch_up.may_send(lambda: None)
    loop.advance(ALONE / 2)
    assert not catch_up.alone
    loop.advance(ALONE)
    assert catch_up.alone
