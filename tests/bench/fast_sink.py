"""A subscriber that costs little: answers 204 to every request, and tells on stdout, when asked, how many came.

python -m tests.bench.fast_sink          prints its port; each line on stdin is answered with the count
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class Counter:
    """How many requests came."""

    count = 0


class Subscriber(asyncio.Protocol):
    """Finds the end of each request by its content-length, and nothing else."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(buffer[:end]).lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(buffer) < end + 4 + length:
                return
            del buffer[: end + 4 + length]
            self._counter.count += 1
            if self._transport is not None:
                self._transport.write(ANSWER)


async def main() -> None:
    """Serve until stdin ends."""
    counter = Counter()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Subscriber(counter), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(counter.count, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
