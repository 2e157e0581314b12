"""uvicorn inside our own process: its signals are ours, and it is an `async with` like everything else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from broker.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator

    from starlette.types import ASGIApp

    from broker.settings import Address

KEEP_ALIVE = 75
"""Seconds that an idle connection is kept: longer than the pools of usual clients, so that those close first."""

FINISH = 10
"""Seconds that requests under way may take when the server stops."""


def bind(address: Address, setting: str) -> socket.socket:
    """A listening socket. Raises UsageError that names `setting` and the fix."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # The protocol is named since asyncio turns Nagle's algorithm off only where it is: answers would wait 40 ms else.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(2048)
    except OSError as error:
        sock.close()
        raise UsageError(
            f"--{setting} {address}: {error.strerror or error}; is it in use? choose another with --{setting} HOST:PORT"
        ) from error
    sock.setblocking(False)
    return sock


def bound(address: Address, sock: socket.socket) -> Address:
    """The address with the port that the socket has."""
    return address._replace(port=sock.getsockname()[1])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals belong to the runtime: uvicorn would raise them again, and nothing after it would run."""
        yield


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, sock: socket.socket, protocol: Callable[..., asyncio.Protocol] = HttpToolsProtocol
) -> AsyncIterator[None]:
    """Serve `app` on `sock`; leaving lets requests under way finish. `protocol` is what uvicorn makes per connection."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        loop="none",
        http=protocol,  # type: ignore[arg-type] # uvicorn calls it, whether or not it is a class
        proxy_headers=False,
        ws="none",
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=FINISH,
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve([sock]))
        await server.up.wait()
        try:
            yield
        finally:
            server.should_exit = True
