"""The Sender's connections: reused, replaced, dropped, bounded, and never leaked."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING

import pytest

from dispatcher.outcome import Outcome, Result
from dispatcher.sender import Sender, SenderSettings
from tests.unit.subscribers import HEAD, IN_TIME, OK, SHORT, SMALL, Peer, Subscriber, sends, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.subscribers import Start


def _reset(peer: Peer) -> None:
    peer.reset()


def _close(peer: Peer) -> None:
    peer.close()


def _short(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nok")
    peer.close()


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


async def test_each_request_on_a_connection_has_its_own_timeout(start: Start, sender: Sender) -> None:
    """A timeout that is shorter than the one before it is kept, and one that is longer is not cut short by it."""
    subscriber: Subscriber = await start(sends(OK))
    assert (await sender.post(subscriber.at(), HEAD, b"", timeout=SHORT)).ok
    loop = asyncio.get_running_loop()
    subscriber.act = lambda peer: loop.call_later(SHORT * 2, peer.send, OK)
    assert (await sender.post(subscriber.at(), HEAD, b"", timeout=IN_TIME)).ok
    subscriber.act = sends()
    assert (await sender.post(subscriber.at(), HEAD, b"", timeout=SHORT)).result is Result.TIMEOUT
    assert len(subscriber.peers) == 1


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
