"""Fixtures of the system tests."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from tests.system.support import Penstock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


SERVERS = {"jetstream": "nats_url"}
"""The fixture with the server of each channel that has one."""


@pytest.fixture
def channel(request: pytest.FixtureRequest) -> str:
    """The URL of the channel: SQLite, unless a test is parametrised, indirectly, with one or more of CHANNELS."""
    kind = getattr(request, "param", "sqlite")
    if kind not in SERVERS:
        return "sqlite:"
    return f"{request.getfixturevalue(SERVERS[kind])}/{secrets.token_hex(4)}"


@pytest.fixture
def penstock(tmp_path: Path, channel: str) -> Iterator[Callable[..., Penstock]]:
    """Makes `penstock serve` processes on one data directory and one channel; all are ended after the test."""
    made: list[Penstock] = []

    def make(*args: str, env: dict[str, str] | None = None) -> Penstock:
        made.append(Penstock(tmp_path / "data", "--channel", channel, *args, env=env))
        return made[-1]

    yield make
    for one in made:
        one.close()
