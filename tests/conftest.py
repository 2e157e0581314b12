"""Fixtures of all tests: the real servers, each started once, when the first test asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.servers import running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A NATS server with JetStream; what several tests keep on it, they keep under prefixes of their own."""
    with running("nats", tmp_path_factory.mktemp("nats")) as server:
        yield server.url
