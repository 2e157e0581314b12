"""The Sender: makes attempts over HTTP/1.1 and knows what became of each.

It is on the path of every delivery, so it works on raw transports with one write, one future and one timer for each
request. Redirects are not followed: a 3xx is an answer like any other.

A connection that served before may have been closed by its peer just as the next request was written. When such a
connection breaks before any byte of an answer, the request is sent once more on a new connection, within the same
timeout. The subscriber may see it twice, as at-least-once delivery allows. On a new connection nothing is sent again.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Self

from dispatcher.connection import Connection
from dispatcher.outcome import Outcome, Result
from dispatcher.pool import Pool, PoolStats
from dispatcher.response import KnownAnswers, ResponseReader
from dispatcher.target import InvalidUrl, target_of
from dispatcher.tls import explain, tls_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType

    from dispatcher.target import Origin, Target
    from eventing.delivery import Destination

_TARGETS_KEPT = 4096
_CONTEXTS_KEPT = 32


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """Times are in seconds, sizes in bytes."""

    max_idle_per_host: int = 1024
    """Connections kept for the next request to the same host; at least what the Triggers have in flight to it, else
    each burst opens connections again."""

    max_idle: int = 1024
    """Connections kept in all; they count against the limit of open files."""

    idle_timeout: float = 30.0
    """How long a connection is kept. Above the peer's own limit, requests meet closed connections more often."""

    connect_timeout: float = 10.0
    """How long name lookup, connecting and the TLS handshake may take together, within the delivery's timeout."""

    max_response_bytes: int = 1024 * 1024
    """The largest body of an answer; a reply is one."""

    max_header_bytes: int = 64 * 1024
    """The largest head of an answer."""

    user_agent: str = "penstock"
    """What subscribers see as `user-agent`."""


class Sender:
    """Posts to subscribers. Use as `async with`; the exit drops all connections, so end all posts before it."""

    def __init__(self, settings: SenderSettings | None = None) -> None:
        self._settings = settings or SenderSettings()
        self._target = lru_cache(_TARGETS_KEPT)(partial(target_of, user_agent=self._settings.user_agent))
        self._context = lru_cache(_CONTEXTS_KEPT)(tls_context)
        self._known = KnownAnswers()
        self._entered: tuple[Pool, asyncio.AbstractEventLoop] | None = None

    async def __aenter__(self) -> Self:
        settings = self._settings
        pool = Pool(settings.max_idle_per_host, settings.max_idle, settings.idle_timeout)
        self._entered = (pool, asyncio.get_running_loop())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._entered is not None:
            await self._entered[0].close()

    @property
    def stats(self) -> PoolStats:
        """How many connections there are now."""
        return self._entered[0].stats if self._entered is not None else PoolStats(0, 0, 0)

    async def post(self, destination: Destination, head: bytes, body: bytes, *, timeout: float) -> Outcome:  # noqa: ASYNC109 - the timer is ours, to the byte
        """Make one attempt; every way to end is an Outcome, and nothing is raised but CancelledError.

        `head` is a block of header lines, each ended by CRLF, without those that the Sender adds: host, content-length
        and user-agent. `timeout` is in seconds, from the start to the last byte of the answer.
        """
        if self._entered is None:
            raise RuntimeError("a Sender is used inside `async with`")
        pool, loop = self._entered
        try:
            target = self._target(destination)
        except InvalidUrl as error:
            return Outcome(Result.INVALID_URL, detail=str(error))
        deadline = loop.time() + timeout
        connection = pool.take(target.origin)
        request = _request(target, head, body)
        if connection is not None:
            outcome = await connection.exchange(request, deadline)
            if outcome is not None:
                return outcome
        made = await self._connect(target.origin, pool, deadline - loop.time())
        if isinstance(made, Outcome):
            return made
        outcome = await made.exchange(request, deadline)
        if outcome is None:
            raise AssertionError("a new connection has not been idle")
        return outcome

    def begin(
        self,
        destination: Destination,
        head: bytes,
        body: bytes,
        *,
        timeout: float,
        done: Callable[[Outcome | None], None],
    ) -> Connection | None:
        """As `post`, on a connection that is idle now, and without a task: `done` is called with the outcome.

        Returns the connection, which can `abandon` the attempt. None where there is none that is idle or the URL is no
        good, and None as the outcome where the connection broke before any byte of an answer (the peer had most likely
        closed it while it was idle): call `post` then.
        """
        if self._entered is None:
            raise RuntimeError("a Sender is used inside `async with`")
        pool, loop = self._entered
        try:
            target = self._target(destination)
        except InvalidUrl:
            return None
        connection = pool.take(target.origin)
        if connection is not None:
            connection.begin(_request(target, head, body), loop.time() + timeout, done)
        return connection

    async def _connect(self, origin: Origin, pool: Pool, remaining: float) -> Connection | Outcome:
        settings = self._settings
        limit = max(0.0, min(settings.connect_timeout, remaining))
        try:
            context = self._context(origin.ca_certs) if origin.scheme == "https" else None
        except (OSError, ValueError) as error:
            detail = f"CACerts of the destination {origin.where} cannot be read as PEM certificates: {error}"
            return Outcome(Result.TLS, detail=detail)
        reader = ResponseReader(settings.max_header_bytes, settings.max_response_bytes, self._known)
        attempt = _ConnectAttempt(origin, pool, reader, context)
        began = attempt.loop.time()
        try:
            async with asyncio.timeout(limit):
                return await attempt.run()
        except OSError as error:
            result, detail = attempt.explain(error, limit)
            return Outcome(result, duration=attempt.loop.time() - began, detail=detail)


def _request(target: Target, head: bytes, body: bytes) -> bytes:
    # One buffer, although that copies the body: writelines joins as well (3.11) or loses count of what is unsent (3.12).
    return b"".join((target.start, head, b"content-length: %d\r\n\r\n" % len(body), body))


class _ConnectAttempt:
    """One attempt to connect, which knows how far it came."""

    def __init__(self, origin: Origin, pool: Pool, reader: ResponseReader, context: ssl.SSLContext | None) -> None:
        self.loop = asyncio.get_running_loop()
        self._origin = origin
        self._context = context
        self._connection = Connection(origin, pool, reader)
        self._reached = False

    async def run(self) -> Connection:
        """Connect. Raises OSError for each way in which that fails."""
        origin = self._origin
        try:
            # The addresses of a name are tried in turn: with happy_eyeballs_delay, asyncio loses a socket when it is
            # cancelled just as one has connected.
            await self.loop.create_connection(
                self._tcp_is_up,
                origin.host,
                origin.port,
                ssl=self._context,
                server_hostname=origin.host.rstrip(".") if self._context else None,
                ssl_shutdown_timeout=1.0 if self._context else None,
            )
        except BaseException:
            # Cancelled just as the connection was made.
            self._connection.abort()
            raise
        return self._connection

    def explain(self, error: OSError, limit: float) -> tuple[Result, str]:
        """The result that `error` means, and a sentence for people."""
        where = self._origin.where
        if isinstance(error, TimeoutError):
            if self._reached:
                detail = f"{where} did not finish the TLS handshake in {limit:g} s: check that this port speaks TLS"
            else:
                detail = f"no connection to {where} in {limit:g} s: check its address and the network policies"
            return Result.CONNECT_TIMEOUT, detail
        if self._reached and self._context is not None:
            return Result.TLS, explain(error, where)
        if isinstance(error, socket.gaierror):
            detail = f"the host name {self._origin.host} could not be resolved ({error.strerror}): check its spelling"
            return Result.DNS, f"{detail} and that the Service exists"
        return Result.REFUSED, _refusal(error, where)

    def _tcp_is_up(self) -> Connection:
        """What asyncio calls between connecting and the TLS handshake."""
        self._reached = True
        return self._connection


def _refusal(error: OSError, where: str) -> str:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"no connection to {where}: this process has too many open files, raise its limit (ulimit -n)"
    # A name with several addresses gives one error without a number, whose text has those of all.
    if error.errno == errno.ECONNREFUSED or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return f"{where} refused the connection: check that the subscriber runs and listens on this port"
    return f"no connection to {where} ({error.strerror or error}): check its address and the network"
