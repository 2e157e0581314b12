"""The Sender against subscribers that misbehave: each way to end has its Outcome, and no connection is leaked."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from dispatcher.outcome import Result
from eventing.delivery import Destination
from tests.unit.subscribers import HEAD, IN_TIME, OK, SHORT, Peer, Subscriber, sends, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from dispatcher.sender import Sender
    from tests.unit.subscribers import Start

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
        pytest.param(
            sends(b"HTTP/1.1 400 X\r\ncontent-length: 1600\r\n\r\n" + b"x" * 900, b"y" * 700),
            400,
            b"x" * 900 + b"y" * 100,
            0,
            id="a refusal with a long page keeps its status",
        ),
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
