"""When commits wait for company."""

from __future__ import annotations

import itertools

from channels.sqlite.pace import CommitPace

INTERVAL = 0.005


def run(pace: CommitPace, now: float, joins: list[float]) -> float:
    """One transaction: the first request at `now`, others so much later; the time at which it begins."""
    delay = pace.delay(now)
    for later in joins:
        if later < delay:
            pace.joined(now + later)
    pace.began(now + delay, waited=delay > 0)
    return now + delay


def test_a_request_that_comes_alone_does_not_wait() -> None:
    pace = CommitPace(INTERVAL)
    for second in range(1, 20):
        assert pace.delay(float(second)) == 0.0
        pace.began(float(second), waited=False)


def test_requests_that_come_one_by_one_share_commits() -> None:
    pace = CommitPace(INTERVAL)
    now = 1.0
    begins = []
    for _ in range(200):
        now = run(pace, now + 0.001, [0.001, 0.002, 0.003])
        begins.append(now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(begins)]
    assert min(gaps) > INTERVAL * 0.999


def test_publishers_that_wait_for_their_answers_are_not_held_up() -> None:
    """All that they send comes at the beginning of a wait: after three of those nothing waits for a while."""
    pace = CommitPace(INTERVAL)
    now, waits = 1.0, 0
    for _ in range(500):
        begin = run(pace, now + 0.0005, [0.0001, 0.0002])
        waits += begin > now + 0.0005
        now = begin + 0.0005
    assert waits == 6
    # Later on it is tried again.
    assert run(pace, 1000.0, []) == 1000.0
    assert run(pace, 1000.001, []) > 1000.004


def test_without_an_interval_nothing_waits() -> None:
    pace = CommitPace(0.0)
    pace.began(1.0, waited=False)
    assert pace.delay(1.0) == 0.0
