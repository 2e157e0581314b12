"""Load at a fixed rate, whatever the answers do: each event carries when it was due.

    python -m tests.bench.paced PORT RATE SECONDS PATH TYPES

Events have the types `bench.0` to `bench.TYPES-1` in turn, and `ce-sent`, the moment at which they were due on the monotonic
clock of the machine, so that time lost before sending counts. Prints how many were accepted as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

BODY = b"x" * 1000
CONNECTIONS = 32


class Client(asyncio.Protocol):
    """One connection; `free` has those that wait for a request."""

    def __init__(self, free: asyncio.Queue[Client]) -> None:
        self._free = free
        self.accepted = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._free.put_nowait(self)

    def data_received(self, data: bytes) -> None:
        self.accepted += data.startswith(b"HTTP/1.1 202")
        self._free.put_nowait(self)


def request(path: str, number: int, kind: int, sent: float) -> bytes:
    """One event of 1 KB."""
    return (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-length: {len(BODY)}\r\nce-specversion: 1.0\r\n"
        f"ce-id: {number}\r\nce-source: /bench\r\nce-type: bench.{kind}\r\nce-sent: {sent:.6f}\r\n\r\n"
    ).encode() + BODY


async def main(port: int, rate: float, seconds: float, path: str, types: int) -> None:
    """Send on time."""
    free: asyncio.Queue[Client] = asyncio.Queue()
    clients = [Client(free) for _ in range(CONNECTIONS)]
    for client in clients:
        await asyncio.get_running_loop().create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc] # mypy has no type for a lambda with a default
    begin = time.monotonic()
    total = int(rate * seconds)
    for number in range(total):
        due = begin + number / rate
        delay = due - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        client = await free.get()
        if client.transport is not None:
            client.transport.write(request(path, number, number % types, due))
    for _ in clients:
        await free.get()
    print(json.dumps({"sent": total, "accepted": sum(client.accepted for client in clients)}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4], int(sys.argv[5])))
