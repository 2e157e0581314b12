"""A subscriber that tests of the Sender script to the byte."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, cast

from dispatcher.sender import SenderSettings
from eventing.delivery import Destination

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Start = Callable[..., Awaitable["Subscriber"]]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
HEAD = b"content-type: text/plain\r\nce-id: 1\r\n"
SMALL = SenderSettings(max_response_bytes=1000, max_header_bytes=2000)
IN_TIME = 20.0
"""Seconds; for attempts that are not about the timeout."""
SHORT = 0.1


class Peer(asyncio.Protocol):
    """The subscriber's end of a connection: calls `act` for each whole request."""

    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber
        self._buffer = b""
        self.gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._subscriber.peers.append(self)
        self._subscriber.greet(self)

    def data_received(self, data: bytes) -> None:
        self._subscriber.on_data(self)
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.rpartition(b"content-length: ")[2].split(b"\r\n")[0]):
            self._subscriber.requests.append(self._buffer)
            self._buffer = b""
            self._subscriber.act(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio passes it
        self.gone = True

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    def close(self) -> None:
        self.transport.close()

    def reset(self) -> None:
        """Close with a TCP reset."""
        raw = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class Subscriber:
    """A server on a port of its own, with what it was asked."""

    def __init__(self, act: Callable[[Peer], object]) -> None:
        self.act = act
        self.greet: Callable[[Peer], None] = lambda _: None
        self.on_data: Callable[[Peer], None] = lambda _: None
        self.peers: list[Peer] = []
        self.requests: list[bytes] = []
        self.port = 0

    def at(self, host: str = "127.0.0.1", path: str = "") -> Destination:
        return Destination(f"http://{host}:{self.port}{path}")


async def until(condition: Callable[[], bool]) -> None:
    """Give others their turn until the condition holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the Sender has no event for tests
            await asyncio.sleep(0)


def sends(*parts: bytes, close: bool = False) -> Callable[[Peer], None]:
    """Answer with these bytes, each part written by itself."""

    def act(peer: Peer) -> None:
        for part in parts:
            peer.send(part)
        if close:
            peer.close()

    return act
