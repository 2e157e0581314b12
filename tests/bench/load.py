"""Load: posts events as fast as the answers come, on some connections, from a process of its own.

    python -m tests.bench.load PORT EVENTS CONNECTIONS PATH

Prints one line of JSON: how many were accepted, and how long it took (s).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

BODY = b'{"n": 1.10, "pad": "' + b"x" * 1000 + b'"}'


def request(path: str, number: int) -> bytes:
    """One event of about 1 KB in binary mode."""
    return (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(BODY)}\r\n"
        f"ce-specversion: 1.0\r\nce-id: bench-{number}\r\nce-source: /bench\r\nce-type: bench.event\r\n"
        "ce-time: 2026-01-01T00:00:00Z\r\nce-subject: order-1\r\n\r\n"
    ).encode() + BODY


class Client(asyncio.Protocol):
    """One connection: the next request goes out when the answer to the last is complete (answers have no body)."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._transport: asyncio.Transport | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if b"\r\n\r\n" in self._buffer:
            self._run.answered(accepted=self._buffer.startswith(b"HTTP/1.1 202"))
            self._buffer = b""
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._run.closed()

    def _next(self) -> None:
        number = self._run.take()
        if self._transport is not None:
            if number is None:
                self._transport.close()
            else:
                self._transport.write(request(self._run.path, number))


class Run:
    """The count of one load."""

    def __init__(self, path: str, events: int, connections: int) -> None:
        self.path = path
        self.accepted = 0
        self.done = asyncio.Event()
        self._left = events
        self._open = connections

    def take(self) -> int | None:
        self._left -= 1
        return self._left if self._left >= 0 else None

    def answered(self, *, accepted: bool) -> None:
        self.accepted += accepted

    def closed(self) -> None:
        self._open -= 1
        if not self._open:
            self.done.set()


async def main(port: int, events: int, connections: int, path: str) -> None:
    """Run one load."""
    run = Run(path, events, connections)
    began = time.monotonic()
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: Client(run), "127.0.0.1", port)
    await run.done.wait()
    print(json.dumps({"accepted": run.accepted, "seconds": time.monotonic() - began}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
