"""The backends that the contract suite runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.harness import BROKER, Harness, SqliteHarness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from channels.driver import Backend, Log


@pytest.fixture(params=["sqlite"])
def harness(tmp_path: Path) -> Harness:
    """An installation without any log."""
    return SqliteHarness(tmp_path / "data")


@pytest.fixture
async def backend(harness: Harness) -> AsyncIterator[Backend]:
    """The opened backend."""
    async with harness.open() as opened:
        yield opened


@pytest.fixture
async def log(backend: Backend) -> Log:
    """BROKER's log, empty."""
    return await backend.create(BROKER, {})
