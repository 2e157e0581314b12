"""`penstock sink`: a subscriber that prints what it gets, and that can be told to fail, to hang or to reply."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, NamedTuple
from urllib.parse import quote

import typer

from broker.commands import console
from broker.commands.console import USAGE, Output
from broker.commands.received import NotAnEvent, Received, receive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import Receive, Scope, Send

REMEMBERED = 100_000
"""Events whose attempts are counted; the oldest is forgotten first."""

WIDTHS = (8, 6, 36, 24, 36)
HEADING = ("TIME", "ANSWER", "TYPE", "SOURCE", "ID", "DATA")

USUAL = frozenset({"specversion", "id", "source", "type", "time", "datacontenttype", "knativearrivaltime"})
"""Attributes that have a column of their own or that every event has; the others are shown before the data."""


def sink(  # noqa: PLR0913 - one parameter for each flag
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 takes a free one.")] = 9000,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines in.")] = "127.0.0.1",
    status: Annotated[
        int | None,
        typer.Option(
            metavar="CODE",
            min=200,
            max=599,
            help="What to answer; with --fail-first or --fail-rate, what failures answer.  [default: 204, failures 500]",
        ),
    ] = None,
    fail_first: Annotated[int, typer.Option(metavar="N", min=0, help="Fail the first N attempts of each event.")] = 0,
    fail_rate: Annotated[
        float, typer.Option(metavar="SHARE", min=0, max=1, help="Fail this share of the attempts, by chance: 0.3.")
    ] = 0.0,
    delay: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="Wait before each answer.")] = 0.0,
    hang: Annotated[bool, typer.Option("--hang", help="Never answer.")] = False,
    reply_type: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="Answer with an event of this type that has the same data and subject."),
    ] = None,
    output: Annotated[
        Output, typer.Option("-o", "--output", help="For eyes, or one JSON document an event.")
    ] = Output.TABLE,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the summary.")] = False,
    count_only: Annotated[
        bool, typer.Option("--count-only", help="Print once a second how many came, no event.")
    ] = False,
) -> None:
    """Receive events and print them: the other end of a Trigger, until Ctrl-C. Nothing is stored.

    At the start it prints the lines that a Trigger needs to send its events here.

    For example:

      penstock sink --port 9000

      penstock sink --fail-first 2

      penstock sink --status 503 --delay 1

      penstock sink --reply-type com.example.order.checked

      penstock sink -o json > events.ndjson
    """
    conduct = Conduct(status, fail_first, fail_rate, delay, hang, reply_type)
    if conduct.unclear:
        console.fail(conduct.unclear, USAGE)
    show = shower(output, shown=not (quiet or count_only))
    try:
        sock = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        console.fail(f"--host {host} --port {port}: {error.strerror or error}; is it in use? choose another --port")
    asyncio.run(_serve(sock, Sink(conduct, show), quiet=quiet, counting=count_only))


class Answer(NamedTuple):
    """What one request gets. `status` None is no answer at all."""

    status: int | None
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Conduct:
    """How the sink answers. `delay` is in seconds, `fail_rate` a share of 1."""

    status: int | None = None
    fail_first: int = 0
    fail_rate: float = 0.0
    delay: float = 0.0
    hang: bool = False
    reply_type: str | None = None

    @property
    def unclear(self) -> str:
        """Why these settings do not go together, or empty."""
        picky = self.fail_first or self.fail_rate
        if picky and self.status is not None and self.status < 300:
            return f"--status {self.status} is no failure: with --fail-first or --fail-rate give 300 or more"
        if self.reply_type and self.status is not None and not picky:
            return (
                "--reply-type answers 200: --status goes with it only for the failures of --fail-first or --fail-rate"
            )
        if self.reply_type == "":
            return "--reply-type is empty: give the type of the event to answer with"
        return ""

    def answer(self, event: Received, attempt: int, chance: float) -> Answer:
        """What attempt number `attempt` (the first is 1) gets; `chance` is a random number in [0, 1)."""
        if self.hang:
            return Answer(None)
        picky = self.fail_first or self.fail_rate
        if picky and (attempt <= self.fail_first or chance < self.fail_rate):
            return _plain(self.status or 500)
        if self.reply_type:
            return _reply(event, self.reply_type)
        return _plain(204 if picky or self.status is None else self.status)


def _plain(status: int) -> Answer:
    """A status without a body, but for failures: what they say becomes `knativeerrordata` of the dead letter."""
    if status >= 300 and status != 304:
        return _text(status, f"the sink was told to answer {status}")
    return Answer(status, () if status in (204, 304) else ((b"content-length", b"0"),))


def _reply(event: Received, reply_type: str) -> Answer:
    """An event that answers another. Its id follows from that one's, so that an answer given twice is the same event."""
    attributes = {
        "specversion": "1.0",
        "id": f"{event.attributes['id']}-reply",
        "source": "/penstock/sink",
        "type": reply_type,
    }
    if subject := event.attributes.get("subject"):
        attributes["subject"] = subject
    headers = [(f"ce-{name}".encode(), quote(value, safe="/:").encode()) for name, value in attributes.items()]
    if content_type := event.attributes.get("datacontenttype"):
        headers.append((b"content-type", console.printable(content_type).encode("latin-1", "replace")))
    return Answer(200, [*headers, (b"content-length", b"%d" % len(event.data))], event.data)


@dataclass
class Tally:
    """What came so far."""

    events: int = 0
    failed: int = 0
    repeated: int = 0
    attempts: OrderedDict[tuple[str, str], int] = field(default_factory=OrderedDict)

    def attempt(self, event: Received) -> int:
        """Count this event; the number of times it has come, this one included."""
        number = self.attempts.pop(event.key, 0) + 1
        self.attempts[event.key] = number
        if len(self.attempts) > REMEMBERED:
            self.attempts.popitem(last=False)
        self.events += 1
        self.repeated += number > 1
        return number

    def __str__(self) -> str:
        return (
            f"{console.count(self.events, 'event')} ({self.failed} not answered with 2xx, {self.repeated} came again)"
        )


class Sink:
    """The subscriber as an ASGI application. `show` is called with each event, the answer and the attempt's number."""

    def __init__(self, conduct: Conduct, show: Callable[[Received, Answer, int], None]) -> None:
        self.tally = Tally()
        self.stopping = asyncio.Event()
        self._conduct = conduct
        self._show = show

    async def __call__(self, scope: Scope, receive_: Receive, send: Send) -> None:
        """Serve one request; only POST is an event."""
        if scope["type"] != "http":
            return
        body = await _body(receive_)
        if scope["method"] != "POST":
            await _send(send, _text(200, "a sink: POST CloudEvents here"))
            return
        try:
            event = receive(scope["headers"], body)
        except NotAnEvent as error:
            console.note(f"penstock: a POST to {scope['path']} was answered with 400: {error}")
            await _send(send, _text(400, str(error)))
            return
        attempt = self.tally.attempt(event)
        answer = self._conduct.answer(event, attempt, random.random())  # noqa: S311 - chance, not a secret
        self.tally.failed += answer.status is None or answer.status >= 300
        self._show(event, answer, attempt)
        if answer.status is None or self._conduct.delay:
            await self._wait(receive_, None if answer.status is None else self._conduct.delay)
        # A sink that hangs answers when it stops: the server would wait for it, and then report a fault of its own.
        await _send(send, answer if answer.status is not None else _text(503, "the sink stops"))

    async def _wait(self, receive_: Receive, seconds: float | None) -> None:
        """Until the time is over, the sender has gone, or the sink stops."""
        tasks = [asyncio.ensure_future(receive_()), asyncio.ensure_future(self.stopping.wait())]
        try:
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _body(receive_: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive_()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _text(status: int, text: str) -> Answer:
    body = f"{text}\n".encode()
    return Answer(status, ((b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))), body)


async def _send(send: Send, answer: Answer) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": list(answer.headers)})
    await send({"type": "http.response.body", "body": answer.body})


def shower(output: Output, *, shown: bool) -> Callable[[Received, Answer, int], None]:
    """What prints an event with its answer and the attempt's number, or does nothing."""
    if not shown:
        return lambda _event, _answer, _attempt: None
    return _show_document if output is Output.JSON else _Table().show


def _show_document(event: Received, answer: Answer, attempt: int) -> None:
    console.document(event.document() | {"answer": answer.status, "attempt": attempt})


class _Table:
    """Lines in columns, a heading before the first."""

    def __init__(self) -> None:
        self._headed = False

    def show(self, event: Received, answer: Answer, attempt: int) -> None:
        if not self._headed:
            self._headed = True
            console.line(_columns(HEADING))
        attributes = event.attributes
        extra = [f"{name}={value}" for name, value in attributes.items() if name not in USUAL]
        again = [f"(attempt {attempt})"] if attempt > 1 else []
        data = event.data[:1000].decode(errors="replace") if event.data else ""
        now = datetime.now().astimezone().strftime("%H:%M:%S")
        status = "none" if answer.status is None else str(answer.status)
        cells = (
            now,
            status,
            attributes["type"],
            attributes["source"],
            attributes["id"],
            " ".join([*again, *extra, data]),
        )
        console.line(_columns(cells))


def _columns(cells: Sequence[str]) -> str:
    padded = [console.printable(cell).ljust(width) for cell, width in zip(cells, (*WIDTHS, 0), strict=True)]
    return "  ".join(padded).rstrip()


async def _serve(sock: socket.socket, app: Sink, *, quiet: bool, counting: bool) -> None:
    """Serve until SIGINT or SIGTERM, then say what came."""
    from broker.http_server import serving  # noqa: PLC0415 - only what a command needs is imported for it

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, app.stopping.set)
    async with serving(app, sock):
        if not quiet:
            console.note(_invitation(sock))
        if counting:
            await _count(app)
        await app.stopping.wait()
    console.note(f"received {app.tally}")


async def _count(app: Sink) -> None:
    """A line each second in which something came, until the sink stops."""
    before, since = 0, time.monotonic()
    while not app.stopping.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(app.stopping.wait(), 1.0)
        now = app.tally.events
        if now != before:
            console.line(f"{console.count(now, 'event')} ({(now - before) / (time.monotonic() - since):.0f}/s)")
        before, since = now, time.monotonic()


def _invitation(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    url = f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
    return f"listening at {url}; a Trigger sends its events here with:\n  subscriber:\n    uri: {url}"
