"""Fixtures of the system tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.support import Penstock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def penstock(tmp_path: Path) -> Iterator[Callable[..., Penstock]]:
    """Makes `penstock serve` processes on one data directory; all are ended after the test."""
    made: list[Penstock] = []

    def make(*args: str, env: dict[str, str] | None = None) -> Penstock:
        made.append(Penstock(tmp_path / "data", *args, env=env))
        return made[-1]

    yield make
    for one in made:
        one.close()
