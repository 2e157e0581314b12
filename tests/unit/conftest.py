"""Fixtures of the Sender's tests."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from dispatcher.sender import Sender
from tests.unit.subscribers import SMALL, Peer, Subscriber, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.unit.subscribers import Start


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts subscribers; `start(act)`, or `start(act, "0.0.0.0")` to listen on more than 127.0.0.1."""
    async with contextlib.AsyncExitStack() as stack:

        async def starter(act: Callable[[Peer], None], host: str = "127.0.0.1") -> Subscriber:
            subscriber = Subscriber(act)
            server = await asyncio.get_running_loop().create_server(lambda: Peer(subscriber), host, 0)
            stack.push_async_callback(_stop, server, subscriber)
            subscriber.port = server.sockets[0].getsockname()[1]
            return subscriber

        yield starter


async def _stop(server: asyncio.Server, subscriber: Subscriber) -> None:
    server.close()
    for peer in subscriber.peers:
        peer.transport.abort()
    await until(lambda: all(peer.gone for peer in subscriber.peers))


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    """A Sender with small limits, all of whose connections are accounted for at the end."""
    async with Sender(SMALL) as made:
        yield made
        await until(lambda: made.stats.in_use == 0)
    assert made.stats.open == 0
