"""The Sender over TLS: whom it trusts, and how each failed handshake is told."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from dispatcher.outcome import Result
from dispatcher.sender import Sender, SenderSettings
from eventing.delivery import Destination

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    Start = Callable[[ssl.SSLContext | None], Awaitable[int]]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
IN_TIME = 20.0
SHORT = 0.2


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two authorities, and a certificate of each: one for localhost, one for another name."""
    folder = tmp_path_factory.mktemp("certificates")
    for name, alternatives in (("localhost", ("localhost", "127.0.0.1")), ("other", ("other.test",))):
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / f"{name}.pem")
        authority.issue_cert(*alternatives).private_key_and_cert_chain_pem.write_to_path(folder / f"{name}.server.pem")
    return folder


def context_of(certificates: Path, name: str) -> ssl.SSLContext:
    """A server's context with the certificate of that name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / f"{name}.server.pem")
    return context


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts servers that answer each request on a connection; returns the port. They speak plain HTTP for None."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(OK)

    async with contextlib.AsyncExitStack() as stack:

        async def starter(context: ssl.SSLContext | None) -> int:
            server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
            stack.push_async_callback(_stop, server, writers)
            port: int = server.sockets[0].getsockname()[1]
            return port

        yield starter


async def _stop(server: asyncio.Server, writers: list[asyncio.StreamWriter]) -> None:
    server.close()
    for writer in writers:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    """A Sender all of whose connections are gone at the end."""
    async with Sender(SenderSettings()) as made:
        yield made
        assert made.stats.in_use == 0
    assert made.stats.open == 0


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_given_authority_is_trusted(start: Start, sender: Sender, certificates: Path, host: str) -> None:
    """CACerts of the destination are trusted for it; name and address are verified; the connection is reused."""
    port = await start(context_of(certificates, "localhost"))
    destination = Destination(f"https://{host}:{port}/", (certificates / "localhost.pem").read_text())
    for _ in range(2):
        outcome = await sender.post(destination, b"", b"", timeout=IN_TIME)
        assert (outcome.detail, outcome.status, outcome.body) == ("", 200, b"ok")
    assert (sender.stats.open, sender.stats.idle) == (1, 1)


async def test_an_unknown_authority(start: Start, sender: Sender, certificates: Path) -> None:
    """A certificate that nobody vouches for is refused, and the detail says where to set its authority."""
    port = await start(context_of(certificates, "localhost"))
    outcome = await sender.post(Destination(f"https://localhost:{port}/"), b"", b"", timeout=IN_TIME)
    assert outcome.result is Result.TLS
    assert f"localhost:{port}" in outcome.detail
    assert "set CACerts" in outcome.detail


async def test_trust_is_for_the_destination_that_has_it(start: Start, sender: Sender, certificates: Path) -> None:
    """A connection made with one destination's authorities does not serve another destination of the same address."""
    port = await start(context_of(certificates, "localhost"))
    url = f"https://localhost:{port}/"
    trusting = Destination(url, (certificates / "localhost.pem").read_text())
    assert (await sender.post(trusting, b"", b"", timeout=IN_TIME)).ok
    assert (await sender.post(Destination(url), b"", b"", timeout=IN_TIME)).result is Result.TLS


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_wrong_name(start: Start, sender: Sender, certificates: Path, host: str) -> None:
    """A trusted certificate for another name is refused, and the detail says that it is the name."""
    port = await start(context_of(certificates, "other"))
    destination = Destination(f"https://{host}:{port}/", (certificates / "other.pem").read_text())
    outcome = await sender.post(destination, b"", b"", timeout=IN_TIME)
    assert outcome.result is Result.TLS
    assert "for another name" in outcome.detail


async def test_tls_to_a_plain_port(sender: Sender) -> None:
    """TLS to a port that answers in plain HTTP is told as a failed handshake."""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        outcome = await sender.post(Destination(url), b"", b"", timeout=IN_TIME)
    assert outcome.result is Result.TLS
    assert "speaks TLS" in outcome.detail


async def test_tls_to_a_silent_port(start: Start, sender: Sender) -> None:
    """A handshake that is never answered ends with the time for connecting, and the detail says how far it came."""
    port = await start(None)
    outcome = await sender.post(Destination(f"https://127.0.0.1:{port}/"), b"", b"", timeout=SHORT)
    assert outcome.result is Result.CONNECT_TIMEOUT
    assert "did not finish the TLS handshake" in outcome.detail


async def test_plain_to_a_tls_port(start: Start, sender: Sender, certificates: Path) -> None:
    """Plain HTTP to a TLS port gets an alert or a closed connection, never an answer."""
    port = await start(context_of(certificates, "localhost"))
    outcome = await sender.post(Destination(f"http://127.0.0.1:{port}/"), b"", b"", timeout=IN_TIME)
    assert outcome.result in {Result.BAD_RESPONSE, Result.RESET_AFTER}


async def test_authorities_that_cannot_be_read(sender: Sender) -> None:
    """CACerts without a certificate in them are told before anything is connected."""
    outcome = await sender.post(Destination("https://localhost:1/", "no PEM"), b"", b"", timeout=IN_TIME)
    assert outcome.result is Result.TLS
    assert "CACerts of the destination localhost:1 cannot be read" in outcome.detail


async def test_cancelling_at_any_point_of_the_handshake_leaks_nothing(
    start: Start, sender: Sender, certificates: Path
) -> None:
    """Cancelled after each number of turns of the loop, an attempt leaves no connection in use."""
    port = await start(context_of(certificates, "localhost"))
    destination = Destination(f"https://127.0.0.1:{port}/", (certificates / "localhost.pem").read_text())
    for turns in range(30):
        task = asyncio.ensure_future(sender.post(destination, b"", b"", timeout=IN_TIME))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        async with asyncio.timeout(IN_TIME):
            while sender.stats.in_use:  # noqa: ASYNC110 - the Sender has no event for tests
                await asyncio.sleep(0)
