"""Order by key and rate: what may go out now."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.records import Record
from dispatcher.pacing import KeyGate, Pace
from eventing.event import Event
from eventing.routing import Order


def a_record(position: int, key: str | None = None) -> Record:
    attributes = {"id": str(position), **({"partitionkey": key} if key is not None else {})}
    return Record(position, 0.0, Event(attributes, b"", b""))


def test_without_an_order_nothing_waits() -> None:
    gate = KeyGate(Order.NONE)
    assert all(gate.enter(a_record(position, "k")) for position in range(10))
    assert gate.leave(a_record(0, "k").event) is None


def test_events_without_a_key_do_not_wait() -> None:
    gate = KeyGate(Order.KEY)
    assert all(gate.enter(a_record(position)) for position in range(10))


def test_order_all_is_one_key() -> None:
    gate = KeyGate(Order.ALL)
    assert gate.enter(a_record(1, "a"))
    assert not gate.enter(a_record(2, "b"))
    assert gate.leave(a_record(1, "a").event) == a_record(2, "b")


def test_what_is_out_already_is_waited_for() -> None:
    gate = KeyGate(Order.KEY)
    for _ in range(2):
        gate.occupy(a_record(1, "k").event)
    assert gate.is_busy(a_record(3, "k").event)
    assert not gate.enter(a_record(3, "k"))
    assert gate.leave(a_record(1, "k").event) is None
    assert gate.leave(a_record(2, "k").event) == a_record(3, "k")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_each_key_goes_in_order_one_at_a_time(steps: list[tuple[str, bool]]) -> None:
    gate = KeyGate(Order.KEY)
    out: dict[str, Record] = {}
    gone: dict[str, list[int]] = defaultdict(list)
    for position, (key, ends) in enumerate(steps):
        record = a_record(position, key)
        if gate.enter(record):
            assert key not in out
            out[key] = record
            gone[key].append(position)
        if ends and key in out:
            follower = gate.leave(out.pop(key).event)
            if follower is not None:
                out[key] = follower
                gone[key].append(follower.position)
    assert all(positions == sorted(positions) for positions in gone.values())
    assert gate.waiting == len(steps) - sum(len(positions) for positions in gone.values())


def test_a_rate_lets_its_burst_go_and_then_one_at_a_time() -> None:
    pace = Pace(100.0)
    went = 0
    while pace.wait(1000.0) == 0:
        pace.take()
        went += 1
    assert went == 10
    assert pace.wait(1000.0) == pytest.approx(0.01)
    assert pace.wait(1000.02) == 0


def test_a_slow_rate_lets_one_go_at_once() -> None:
    pace = Pace(0.1)
    assert pace.wait(1000.0) == 0
    pace.take()
    assert pace.wait(1000.0) == pytest.approx(10.0)


def test_a_pause_stops_all() -> None:
    pace = Pace(None)
    pace.pause(50.0)
    pace.pause(20.0)
    assert pace.wait(45.0) == pytest.approx(5.0)
    assert pace.wait(50.0) == 0
