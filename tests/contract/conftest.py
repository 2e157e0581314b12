"""The backends that the contract suite runs on."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from tests.contract.harness import BROKER, Harness, SqliteHarness
from tests.contract.jetstream_harness import JetStreamHarness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from channels.driver import Backend, Log


def _sqlite(_: pytest.FixtureRequest, data_dir: Path) -> Harness:
    return SqliteHarness(data_dir)


def _jetstream(request: pytest.FixtureRequest, data_dir: Path) -> Harness:
    return JetStreamHarness(_unused(request.getfixturevalue("nats_url")), data_dir)


def _unused(server: str) -> str:
    """A channel on the server that nobody has used."""
    return f"{server}/{secrets.token_hex(4)}"


HARNESSES = {"sqlite": _sqlite, "jetstream": _jetstream}


@pytest.fixture(params=HARNESSES)
def make_harness(request: pytest.FixtureRequest) -> Callable[[Path], Harness]:
    """Makes installations without any log, each with a directory of its own."""
    return lambda data_dir: HARNESSES[request.param](request, data_dir)


@pytest.fixture
def harness(make_harness: Callable[[Path], Harness], tmp_path: Path) -> Harness:
    """An installation without any log."""
    return make_harness(tmp_path / "data")


@pytest.fixture
def jetstream_url(nats_url: str) -> str:
    """A channel on the shared NATS server that nobody has used."""
    return _unused(nats_url)


@pytest.fixture
async def backend(harness: Harness) -> AsyncIterator[Backend]:
    """The opened backend."""
    async with harness.open() as opened:
        yield opened


@pytest.fixture
async def log(backend: Backend) -> Log:
    """BROKER's log, empty."""
    return await backend.create(BROKER, {})
