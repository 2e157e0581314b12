"""The ring of recent records: bounded in bytes over all logs, and never with a gap."""

from __future__ import annotations

import pytest

from channels.sqlite.ring import OVERHEAD, LogRing, Ring, take
from tests.contract.harness import event, events

SIZE = event(1).size + OVERHEAD


def test_what_came_first_goes_first_whatever_its_log() -> None:
    """Three records fit: the oldest of both logs are gone, the newest are there."""
    ring, one, two = Ring(3 * SIZE), LogRing(), LogRing()
    ring.add(one, 1, 0.0, events(1, 2))
    ring.add(two, 1, 0.0, events(3))
    ring.add(one, 3, 0.0, events(4, 5))
    assert (sorted(one), sorted(two)) == ([3, 4], [1])


def test_a_record_that_does_not_fit_is_not_kept() -> None:
    """A ring without room keeps nothing."""
    ring, log = Ring(SIZE - 1), LogRing()
    ring.add(log, 1, 0.0, events(1))
    assert log == {}


@pytest.mark.parametrize(
    ("after", "limit", "size", "found"),
    [
        pytest.param(4, 10, 10_000, [5, 6, 7], id="all"),
        pytest.param(5, 1, 10_000, [6], id="limited in number"),
        pytest.param(4, 10, 2 * event(1).size, [5, 6], id="limited in bytes"),
        pytest.param(4, 10, 0, [5], id="one at least"),
        pytest.param(3, 10, 10_000, [], id="what follows is not there"),
        pytest.param(7, 10, 10_000, [], id="past the end"),
    ],
)
def test_take(after: int, limit: int, size: int, found: list[int]) -> None:
    """A reader gets what follows its position, up to both limits, or nothing where its next record is not there."""
    ring, log = Ring(10 * SIZE), LogRing()
    ring.add(log, 5, 0.0, events(5, 6, 7))
    assert [record.position for record in take(log, after, limit, size)] == found
