"""The Sender against subscribers that misbehave: each way to end has its Outcome, and no connection is leaked."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from typing import TYPE_CHECKING, cast

import pytest

from dispatcher.outcome import Outcome, Result
from dispatcher.sender import Sender, SenderSettings
from eventing.delivery import Destination

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

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

    def __init__(self, act: Callable[[Peer], None]) -> None:
        self.act = act
        self.greet: Callable[[Peer], None] = lambda _: None
        self.on_data: Callable[[Peer], None] = lambda _: None
        self.peers: list[Peer] = []
        self.requests: list[bytes] = []
        self.port = 0

    def at(self, host: str = "127.0.0.1", path: str = "") -> Destination:
        return Destination(f"http://{host}:{self.port}{path}")


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


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("act", "status", "body", "kept"),
    [
        pytest.param(sends(OK), 200, b"ok", 1, id="content-length"),
        pytest.param(sends(OK[:20], OK[20:-1], OK[-1:]), 200, b"ok", 1, id="in pieces"),
        pytest.param(sends(b"HTTP/1.1 204 No Content\r\n\r\n"), 204, b"", 1, id="no content"),
        pytest.param(sends(CHUNKED, b"2\r\nok\r\n0\r\n\r\n"), 200, b"ok", 1, id="chunked"),
        pytest.param(sends(CHUNKED, b"2;x=y\r\nok\r\n0\r\nt: 1\r\n\r\n"), 200, b"ok", 1, id="chunked with trailer"),
        pytest.param(sends(b"HTTP/1.1 200 OK\r\n\r\nok", close=True), 200, b"ok", 0, id="delimited by close"),
        pytest.param(sends(OK.replace(b"/1.1", b"/1.0")), 200, b"ok", 0, id="HTTP/1.0"),
        pytest.param(sends(OK.replace(b"OK\r\n", b"OK\r\nconnection: close\r\n")), 200, b"ok", 0, id="not kept alive"),
        pytest.param(sends(b"HTTP/1.1 100 Continue\r\n\r\n" + OK), 200, b"ok", 1, id="100 first"),
        pytest.param(sends(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", OK), 200, b"ok", 1, id="103 first"),
        pytest.param(sends(OK + OK), 200, b"ok", 0, id="one answer too many"),
        pytest.param(sends(OK + b"garbage"), 200, b"ok", 0, id="something left over"),
        pytest.param(
            sends(b"HTTP/1.1 302 Found\r\nlocation: /else\r\ncontent-length: 0\r\n\r\n"), 302, b"", 1, id="redirect"
        ),
        pytest.param(sends(b"HTTP/1.1 599 \r\ncontent-length: 0\r\n\r\n"), 599, b"", 1, id="no reason"),
        pytest.param(
            sends(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + b"x" * 1000), 200, b"x" * 1000, 1, id="at limit"
        ),
    ],
)
async def test_a_complete_answer_is_told_and_the_connection_kept_only_if_it_can_be(
    start: Start,
    sender: Sender,
    act: Callable[[Peer], None],
    status: int,
    body: bytes,
    kept: int,
) -> None:
    """An answer in any framing is complete, once; the connection is reused only after a clean end."""
    subscriber = await start(act)
    outcome = await sender.post(subscriber.at(), HEAD, b"data", timeout=IN_TIME)
    assert (outcome.result, outcome.status, outcome.body, outcome.detail) == (Result.ANSWERED, status, body, "")
    await until(lambda: sender.stats.open == kept)
    assert sender.stats.idle == kept
    assert len(subscriber.requests) == 1


def _reset(peer: Peer) -> None:
    peer.reset()


def _close(peer: Peer) -> None:
    peer.close()


def _short(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nok")
    peer.close()


def _short_chunk(peer: Peer) -> None:
    peer.send(CHUNKED + b"5\r\nok")
    peer.close()


@pytest.mark.parametrize(
    ("act", "result", "detail"),
    [
        pytest.param(_reset, Result.RESET_AFTER, "before any byte of an answer", id="reset"),
        pytest.param(_close, Result.RESET_AFTER, "before any byte of an answer", id="closed"),
        pytest.param(sends(OK[:12], close=True), Result.RESET_AFTER, "in the head", id="closed in the head"),
        pytest.param(_short, Result.RESET_AFTER, "after 2 bytes of the body of its 200", id="short body"),
        pytest.param(_short_chunk, Result.RESET_AFTER, "after 2 bytes", id="short chunk"),
        pytest.param(sends(b"220 smtp ready\r\n"), Result.BAD_RESPONSE, "not HTTP", id="garbage"),
        pytest.param(
            sends(b"HTTP/1.1 101 X\r\nupgrade: y\r\nconnection: upgrade\r\n\r\n"), Result.BAD_RESPONSE, "101", id="101"
        ),
        pytest.param(
            sends(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
            Result.BAD_RESPONSE,
            "not HTTP",
            id="two lengths",
        ),
        pytest.param(sends(OK.replace(b": 2", b": 1001")), Result.TIMEOUT, "after 2 bytes", id="long length, silence"),
        pytest.param(
            sends(CHUNKED, *[b"64\r\n" + b"x" * 100 + b"\r\n"] * 11),
            Result.BODY_TOO_LARGE,
            "1000 bytes",
            id="endless chunks",
        ),
        pytest.param(
            sends(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001), Result.BODY_TOO_LARGE, "1000 bytes", id="endless body"
        ),
        pytest.param(
            sends(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1001 + b"\r\n"),
            Result.BODY_TOO_LARGE,
            "2000 bytes",
            id="many headers",
        ),
        pytest.param(
            sends(b"HTTP/1.1 200 OK\r\na: " + b"x" * 2001), Result.BODY_TOO_LARGE, "2000 bytes", id="endless header"
        ),
        pytest.param(
            sends(CHUNKED + b"0\r\na: " + b"x" * 2001), Result.BODY_TOO_LARGE, "2000 bytes", id="endless trailer"
        ),
        pytest.param(sends(b"HTTP/1.1 103 X\r\n\r\n" * 200), Result.BODY_TOO_LARGE, "2000 bytes", id="endless hints"),
        pytest.param(sends(), Result.TIMEOUT, "before any byte", id="silent"),
        pytest.param(sends(OK[:12]), Result.TIMEOUT, "in the head", id="slow head"),
        pytest.param(sends(OK[:-1]), Result.TIMEOUT, "after 1 bytes", id="slow body"),
        pytest.param(sends(b"HTTP/1.1 100 Continue\r\n\r\n"), Result.TIMEOUT, "in the head", id="100 and silence"),
    ],
)
async def test_an_incomplete_answer_is_told_apart_and_its_connection_dropped(
    start: Start,
    sender: Sender,
    act: Callable[[Peer], None],
    result: Result,
    detail: str,
) -> None:
    """What is not a whole answer has a result of its own, a sentence with the address, and is sent only once."""
    subscriber = await start(act)
    limit = SHORT if result is Result.TIMEOUT else IN_TIME
    outcome = await sender.post(subscriber.at(), HEAD, b"data", timeout=limit)
    assert (outcome.result, outcome.status) == (result, None)
    assert detail in outcome.detail
    await until(lambda: sender.stats.open == 0)
    assert len(subscriber.requests) == 1


async def test_the_request_is_what_was_asked_for(start: Start, sender: Sender) -> None:
    """The request line keeps path and query; the head is passed on as it is, with what the Sender adds."""
    subscriber = await start(sends(OK))
    await sender.post(subscriber.at(path="/a%20b?c=d#e"), HEAD, b"data", timeout=IN_TIME)
    assert subscriber.requests == [
        b"POST /a%%20b?c=d HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nuser-agent: penstock\r\n" % subscriber.port
        + HEAD
        + b"content-length: 4\r\n\r\ndata"
    ]


async def test_header_names_are_in_lower_case_and_retry_after_is_in_seconds(start: Start, sender: Sender) -> None:
    """Headers come in their order, names in lower case, and Retry-After is read."""
    subscriber = await start(sends(b"HTTP/1.1 503 X\r\nB: 1\r\nRetry-After: 7\r\nA: 2\r\ncontent-length: 0\r\n\r\n"))
    outcome = await sender.post(subscriber.at(), HEAD, b"", timeout=IN_TIME)
    assert outcome.headers == ((b"b", b"1"), (b"retry-after", b"7"), (b"a", b"2"), (b"content-length", b"0"))
    assert outcome.retry_after == 7.0


async def test_a_connection_is_reused(start: Start, sender: Sender) -> None:
    """Requests one after another go over one connection."""
    subscriber = await start(sends(OK))
    for _ in range(5):
        assert (await sender.post(subscriber.at(), HEAD, b"", timeout=IN_TIME)).ok
    assert (len(subscriber.peers), len(subscriber.requests)) == (1, 5)


async def test_many_at_once_share_few_connections(start: Start, sender: Sender) -> None:
    """A hundred in flight, many times over: each gets its answer, over at most a hundred connections."""
    subscriber: Subscriber = await start(sends())
    subscriber.act = lambda peer: peer.send(OK.replace(b": 2", b": 3").replace(b"ok", subscriber.requests[-1][-3:]))

    async def work(worker: int) -> list[bytes]:
        body = b"%03d" % worker
        return [(await sender.post(subscriber.at(), HEAD, body, timeout=IN_TIME)).body for _ in range(10)]

    answers = await asyncio.gather(*(work(worker) for worker in range(100)))
    assert answers == [[b"%03d" % worker] * 10 for worker in range(100)]
    assert len(subscriber.peers) <= 100
    assert sender.stats.in_use == 0


async def test_a_connection_closed_while_idle_is_not_used(start: Start, sender: Sender) -> None:
    """The end of an idle connection is seen, and the next request opens another."""
    subscriber = await start(sends(OK))
    await sender.post(subscriber.at(), HEAD, b"", timeout=IN_TIME)
    subscriber.peers[0].close()
    await until(lambda: sender.stats.open == 0)
    assert (await sender.post(subscriber.at(), HEAD, b"", timeout=IN_TIME)).ok
    assert len(subscriber.requests) == 2


async def test_what_comes_unasked_closes_an_idle_connection(start: Start, sender: Sender) -> None:
    """A 408 for an idle connection is never taken for the answer to the next request."""
    subscriber = await start(sends(OK))
    await sender.post(subscriber.at(), HEAD, b"", timeout=IN_TIME)
    subscriber.peers[0].send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    await until(lambda: sender.stats.open == 0)
    assert (await sender.post(subscriber.at(), HEAD, b"", timeout=IN_TIME)).status == 200


@pytest.mark.parametrize("end", [pytest.param(_reset, id="reset"), pytest.param(_close, id="closed")])
async def test_a_reused_connection_that_breaks_at_once_is_replaced_once(
    start: Start, sender: Sender, end: Callable[[Peer], None]
) -> None:
    """As the peer may have closed it while idle, the request goes out again on a new connection, and only once."""
    subscriber = await start(sends(OK))
    await sender.post(subscriber.at(), HEAD, b"first", timeout=IN_TIME)
    old = subscriber.peers[0]
    subscriber.act = lambda peer: end(peer) if peer is old else peer.send(OK)
    assert (await sender.post(subscriber.at(), HEAD, b"second", timeout=IN_TIME)).ok
    assert len(subscriber.peers) == 2
    subscriber.act = end
    outcome = await sender.post(subscriber.at(), HEAD, b"third", timeout=IN_TIME)
    assert outcome.result is Result.RESET_AFTER
    assert [request[-6:] for request in subscriber.requests[-2:]] == [b"\nthird"] * 2


async def test_a_reused_connection_that_breaks_in_its_answer_is_not_replaced(start: Start, sender: Sender) -> None:
    """Once a byte of the answer came, the subscriber has the request: it is not sent again."""
    subscriber = await start(sends(OK))
    await sender.post(subscriber.at(), HEAD, b"", timeout=IN_TIME)
    subscriber.act = _short
    assert (await sender.post(subscriber.at(), HEAD, b"", timeout=IN_TIME)).result is Result.RESET_AFTER
    assert len(subscriber.requests) == 2


async def test_reset_before_the_request_was_taken(start: Start, sender: Sender) -> None:
    """A body of which the kernel could not take all, and a reset: the subscriber cannot have the request."""
    subscriber = await start(sends(OK))
    subscriber.on_data = _reset
    outcome = await sender.post(subscriber.at(), HEAD, bytes(64 * 1024 * 1024), timeout=IN_TIME)
    assert outcome.result is Result.RESET_BEFORE
    assert f":{subscriber.port}" in outcome.detail


async def test_reset_at_once(start: Start, sender: Sender) -> None:
    """A peer that accepts and resets is told as a reset, whichever side is first."""
    subscriber = await start(sends(OK))
    subscriber.greet = _reset
    outcome = await sender.post(subscriber.at(), HEAD, b"data", timeout=IN_TIME)
    assert outcome.result in {Result.RESET_BEFORE, Result.RESET_AFTER}


async def test_a_peer_that_speaks_first_is_not_http(start: Start, sender: Sender) -> None:
    """A banner before the request, as of SSH or SMTP, is a bad response whichever side is first."""
    subscriber = await start(sends())
    subscriber.greet = sends(b"SSH-2.0-x\r\n")
    outcome = await sender.post(subscriber.at(), HEAD, b"data", timeout=IN_TIME)
    assert outcome.result is Result.BAD_RESPONSE


async def test_a_request_that_is_not_taken_times_out(start: Start, sender: Sender) -> None:
    """A subscriber that stops reading holds the attempt no longer than its timeout."""
    subscriber = await start(sends(OK))
    subscriber.on_data = lambda peer: peer.transport.pause_reading()
    outcome = await sender.post(subscriber.at(), HEAD, bytes(64 * 1024 * 1024), timeout=SHORT)
    assert outcome.result is Result.TIMEOUT
    assert "did not take the whole request" in outcome.detail


async def test_an_early_answer_counts_and_the_connection_is_dropped(start: Start, sender: Sender) -> None:
    """A 413 before the body was read is the answer; the connection still has a body in it and is not reused."""

    def refuse(peer: Peer) -> None:
        peer.transport.pause_reading()
        peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")

    subscriber = await start(sends(OK))
    subscriber.on_data = refuse
    outcome = await sender.post(subscriber.at(), HEAD, bytes(64 * 1024 * 1024), timeout=IN_TIME)
    assert outcome.status == 413
    await until(lambda: sender.stats.open == 0)


async def test_refused(sender: Sender) -> None:
    """A port without a listener is told with the address and what to check."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    outcome = await sender.post(Destination(f"http://127.0.0.1:{port}"), HEAD, b"", timeout=IN_TIME)
    assert outcome.result is Result.REFUSED
    assert f"127.0.0.1:{port} refused the connection" in outcome.detail


async def test_refused_at_every_address_of_a_name(sender: Sender) -> None:
    """A name with several addresses is refused when all are."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    outcome = await sender.post(Destination(f"http://localhost:{port}"), HEAD, b"", timeout=IN_TIME)
    assert outcome.result is Result.REFUSED
    assert f"localhost:{port} refused the connection" in outcome.detail


async def test_a_name_that_does_not_resolve(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that the resolver does not know is told as such, whatever resolver this machine has."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    outcome = await sender.post(Destination("http://name.invalid/"), HEAD, b"", timeout=IN_TIME)
    assert outcome.result is Result.DNS
    assert "name.invalid could not be resolved" in outcome.detail


@pytest.mark.skipif(sys.platform != "linux", reason="how a full queue behaves is for each system to say")
async def test_no_connection_in_time(sender: Sender) -> None:
    """A listener whose queue is full does not answer: connecting has a limit of its own within the timeout."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        destination = Destination(f"http://127.0.0.1:{server.getsockname()[1]}/")
        outcome = await sender.post(destination, HEAD, b"", timeout=SHORT)
    assert outcome.result is Result.CONNECT_TIMEOUT
    assert "no connection to 127.0.0.1" in outcome.detail


async def test_a_url_that_cannot_be_used(sender: Sender) -> None:
    """A bad URL is an outcome like others."""
    outcome = await sender.post(Destination("ftp://example.test/"), HEAD, b"", timeout=IN_TIME)
    assert outcome.result is Result.INVALID_URL


async def test_cancelling_closes_the_connection(start: Start, sender: Sender) -> None:
    """A cancelled attempt never gives its connection back: an answer to it may still come."""
    subscriber = await start(sends())
    async with asyncio.TaskGroup() as group:
        task = group.create_task(sender.post(subscriber.at(), HEAD, b"", timeout=IN_TIME))
        await until(lambda: len(subscriber.requests) == 1)
        task.cancel()
    assert task.cancelled()
    await until(lambda: sender.stats.open == 0)
    await until(lambda: subscriber.peers[0].gone)


async def test_cancelling_at_any_point_leaks_nothing(start: Start, sender: Sender) -> None:
    """Cancelled after each number of turns of the loop, an attempt leaves no connection in use."""
    subscriber = await start(sends(OK))
    for turns in range(40):
        task = asyncio.ensure_future(sender.post(subscriber.at("localhost"), HEAD, b"", timeout=IN_TIME))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await until(lambda: sender.stats.in_use == 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
async def test_two_hundred_hosts_leak_nothing(start: Start) -> None:
    """Idle connections are bounded over all hosts, and those that waited longest go first."""
    subscriber = await start(sends(OK), "0.0.0.0")
    async with Sender(SenderSettings(max_idle=50)) as sender:
        for number in range(1, 201):
            assert (await sender.post(subscriber.at(f"127.0.0.{number}"), HEAD, b"", timeout=IN_TIME)).ok
        await until(lambda: sender.stats.open == 50)
        assert (await sender.post(subscriber.at("127.0.0.200"), HEAD, b"", timeout=IN_TIME)).ok
        assert len(subscriber.peers) == 200
    await until(lambda: all(peer.gone for peer in subscriber.peers))


async def test_idle_connections_of_a_host_are_bounded(start: Start) -> None:
    """After a burst, no more than the setting are kept for a host."""
    subscriber = await start(sends(OK))
    async with Sender(SenderSettings(max_idle_per_host=2)) as sender:
        await asyncio.gather(*(sender.post(subscriber.at(), HEAD, b"", timeout=IN_TIME) for _ in range(10)))
        await until(lambda: sender.stats.open == 2)


async def test_idle_connections_expire(start: Start) -> None:
    """A connection that nobody needs is closed."""
    subscriber = await start(sends(OK))
    async with Sender(SenderSettings(idle_timeout=0.02)) as sender:
        await sender.post(subscriber.at(), HEAD, b"", timeout=IN_TIME)
        await until(lambda: sender.stats.open == 0)
        assert (await sender.post(subscriber.at(), HEAD, b"", timeout=IN_TIME)).ok


async def test_leaving_ends_what_is_in_flight(start: Start) -> None:
    """An attempt that still waits when the Sender goes ends with an outcome, not with an error."""
    subscriber = await start(sends())
    async with asyncio.TaskGroup() as group, Sender(SMALL) as sender:
        task = group.create_task(sender.post(subscriber.at(), HEAD, b"", timeout=IN_TIME))
        await until(lambda: len(subscriber.requests) == 1)
    outcome: Outcome = task.result()
    assert outcome.result is Result.RESET_AFTER
    assert sender.stats.open == 0


async def test_ipv6(sender: Sender) -> None:
    """An IPv6 literal is connected to, and its Host has brackets."""
    subscriber = Subscriber(sends(OK))
    try:
        server = await asyncio.get_running_loop().create_server(lambda: Peer(subscriber), "::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with server:
        subscriber.port = server.sockets[0].getsockname()[1]
        assert (await sender.post(subscriber.at("[::1]"), HEAD, b"", timeout=IN_TIME)).ok
        assert b"\r\nhost: [::1]:%d\r\n" % subscriber.port in subscriber.requests[0]
        subscriber.peers[0].close()
        await until(lambda: subscriber.peers[0].gone)
