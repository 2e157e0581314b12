"""A subscriber that notes how long events took; on the path `/hang` it takes requests and never answers.

python -m tests.bench.timing_sink        prints its port; each line on stdin is answered with the delays (ms) so far, and
begins a new count
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class Subscriber(asyncio.Protocol):
    """Reads requests by their content-length."""

    def __init__(self, delays: list[float]) -> None:
        self._delays = delays
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(buffer[:end])
            length = int(head.partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
            if len(buffer) < end + 4 + length:
                return
            del buffer[: end + 4 + length]
            if head.startswith(b"POST /hang"):
                continue
            sent = head.partition(b"ce-sent: ")[2].split(b"\r\n", 1)[0]
            if sent and not head.startswith(b"POST /replay"):
                self._delays.append((time.monotonic() - float(sent)) * 1000)
            if self._transport is not None:
                self._transport.write(ANSWER)


async def main() -> None:
    """Serve until stdin ends."""
    delays: list[float] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Subscriber(delays), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(delays), flush=True)
        delays.clear()


if __name__ == "__main__":
    asyncio.run(main())
