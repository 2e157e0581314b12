"""`penstock send`: post events to a Broker, or to any CloudEvents receiver, and say what became of each."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import typer

from broker.commands import console, messages
from broker.commands.console import USAGE, Output
from eventing.delivery import Destination

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    import rich.progress

    from broker.commands.messages import Message
    from dispatcher.outcome import Outcome
    from dispatcher.sender import Sender

T = TypeVar("T")

SHOWN = 20
"""Results that are shown one by one to people; of what comes after them, only refusals are, and as many again."""

TIMEOUT = 30.0
"""Seconds that one attempt may take; a Broker answers once the event is durable, not once it is delivered."""

RETRIED = frozenset({429, 503})
"""Statuses that ask for the same request again, later."""

BACKOFF = 0.5
LONGEST_WAIT = 60.0
"""Seconds before the first retry where no `Retry-After` says more, doubled for each; and the most that is waited."""


def send(  # noqa: PLR0913 - one parameter for each flag
    target: Annotated[
        str, typer.Argument(metavar="URL|NAMESPACE/BROKER", help="A Broker (default/default), or any http:// address.")
    ],
    *,
    event_type: Annotated[
        str | None, typer.Option("--type", help="The event's type.  [default: dev.penstock.event]")
    ] = None,
    source: Annotated[str | None, typer.Option(help="The event's source.  [default: /penstock/send]")] = None,
    event_id: Annotated[str | None, typer.Option("--id", help="The event's id.  [default: a UUID]")] = None,
    subject: Annotated[str | None, typer.Option(help="The event's subject.")] = None,
    attr: Annotated[
        list[str] | None, typer.Option("--attr", metavar="NAME=VALUE", help="Another attribute; may be repeated.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="TEXT", help="The data, as text.")] = None,
    json_text: Annotated[
        str | None, typer.Option("--json", metavar="JSON", help="The data, as JSON; its bytes are sent as given.")
    ] = None,
    data_file: Annotated[Path | None, typer.Option(metavar="FILE", help="The data, from a file.")] = None,
    content_type: Annotated[
        str | None, typer.Option(metavar="TYPE", help="The data's media type.  [default: by flag and file name]")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "-f",
            "--file",
            metavar="FILE",
            help="Whole JSON events: one, an array, or one a line; - is stdin. Sent as they are.",
        ),
    ] = None,
    number: Annotated[int, typer.Option("--count", metavar="N", min=1, help="How many events to make.")] = 1,
    rate: Annotated[str | None, typer.Option(metavar="N/s", help="At most so many a second (also N/m, N/h).")] = None,
    concurrency: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Requests at the same time.")] = 8,
    retry: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Try again up to N times on 429, 503 or no answer; honours Retry-After."),
    ] = 0,
    base: Annotated[
        str, typer.Option("--url", metavar="URL", envvar="PENSTOCK_URL", help="Where NAMESPACE/BROKER is served.")
    ] = "http://127.0.0.1:8080",
    output: Annotated[
        Output, typer.Option("-o", "--output", help="For eyes, or one JSON document a result.")
    ] = Output.TABLE,
) -> None:
    """Post events and say for each whether it was accepted. A Broker accepts (202) once the event is durable.

    Exits with 1 if any was not accepted. The id of an event is kept when it is tried again.

    For example:

      penstock send default/default --type order --json '{"total": 12.50}'

      penstock send default/default --count 10000 --rate 500/s

      penstock send default/default -f events.ndjson --retry 5

      penstock send http://127.0.0.1:9000 --data hello -o json
    """
    made = {"type": event_type, "source": source, "subject": subject}
    given = {name: value for name, value in made.items() if value is not None}
    try:
        plan = Plan(address(target, base), concurrency, interval(rate), retry)
        content = messages.payload(text=data, json_text=json_text, file=data_file, content_type=content_type)
        attributes = (
            {"type": "dev.penstock.event", "source": "/penstock/send"} | given | messages.extensions(attr or [])
        )
        if file is None:
            _run(plan, messages.generated(attributes, content, number, event_id), Report(plan.url, output, number))
            return
        if given or attr or event_id is not None or content != messages.Payload() or number != 1:
            console.fail("--file sends whole events as they are: flags that describe an event cannot go with it", USAGE)
        with messages.opened(file) as opened:
            name = "stdin" if str(file) == "-" else str(file)
            _run(plan, messages.read(opened, name), Report(plan.url, output, None), slow=name == "stdin")
    except messages.InvalidInput as error:
        console.fail(str(error), USAGE)


@dataclass(frozen=True, slots=True)
class Plan:
    """Where to post and how: requests at the same time, seconds between two events (0: none), attempts after the first."""

    url: str
    concurrency: int = 8
    interval: float = 0.0
    retry: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one event. `status` is None where no answer came; `detail` says why it was refused."""

    id: str
    status: int | None
    detail: str = ""
    attempts: int = 1

    @property
    def accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def address(target: str, base: str) -> str:
    """The URL to post to. Raises InvalidInput."""
    from dispatcher.target import InvalidUrl, target_of  # noqa: PLC0415 - only what a command needs is imported for it

    url = target
    if "://" not in target:
        namespace, slash, name = target.partition("/")
        if not slash or not namespace or not name or "/" in name:
            raise messages.InvalidInput(
                f"{target!r} is neither NAMESPACE/BROKER nor a URL: write, for example, default/default or http://127.0.0.1:9000"
            )
        url = f"{base.rstrip('/')}/{namespace}/{name}"
    try:
        target_of(Destination(url), "")
    except InvalidUrl as error:
        raise messages.InvalidInput(str(error)) from error
    return url


def interval(rate: str | None) -> float:
    """Seconds between two events for `N/s`, `N/m`, `N/h` or `N`; 0 without a rate. Raises InvalidInput."""
    if rate is None:
        return 0.0
    number, _, unit = rate.partition("/")
    seconds = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}.get(unit)
    with contextlib.suppress(ValueError):
        if seconds is not None and 0 < float(number) < float("inf"):
            return seconds / float(number)
    raise messages.InvalidInput(f"--rate {rate!r}: write a number above 0 and a unit, for example 50/s, 10/m or 1/h")


def _run(plan: Plan, events: Iterator[Message], report: Report, *, slow: bool = False) -> None:
    """Post everything, then end with the summary. `slow` says that the next event may be long in coming."""
    trouble = ""
    try:
        with report:
            asyncio.run(post_all(plan, events, report.add, slow=slow))
    except messages.InvalidInput as error:
        trouble = str(error)
    except KeyboardInterrupt:
        trouble = "interrupted"
    report.finish(trouble)


async def post_all(
    plan: Plan, events: Iterator[Message], done: Callable[[Result], None], *, slow: bool = False
) -> None:
    """Post each event once it is its turn, and hand its result to `done`.

    Raises InvalidInput where `events` does, after those before it are done.
    """
    from dispatcher.sender import Sender, SenderSettings  # noqa: PLC0415 - only what a command needs is imported for it

    turns = _Turns(events, plan.interval, slow=slow)
    destination = Destination(plan.url)

    async def worker() -> None:
        async with Sender(SenderSettings(max_idle_per_host=1, max_idle=1)) as sender:
            while (message := await turns.next()) is not None:
                done(await _post(sender, destination, message, plan.retry))

    async with asyncio.TaskGroup() as group:
        for _ in range(plan.concurrency):
            group.create_task(worker())
    if turns.broken is not None:
        raise turns.broken


class _Turns:
    """Events one after the other, to whichever worker asks first, no faster than the rate."""

    def __init__(self, events: Iterator[Message], interval: float, *, slow: bool) -> None:
        self._events = events
        self._interval = interval
        self._slow = slow
        self._lock = asyncio.Lock()
        self._due = 0.0
        self.broken: messages.InvalidInput | None = None

    async def next(self) -> Message | None:
        async with self._lock:
            try:
                message = await self._take()
            except messages.InvalidInput as error:
                self.broken = error
                return None
            if message is not None and self._interval:
                now = time.monotonic()
                self._due = max(self._due, now)
                await asyncio.sleep(self._due - now)
                self._due += self._interval
            return message

    async def _take(self) -> Message | None:
        def take() -> Message | None:
            return next(self._events, None)

        return await _in_daemon_thread(take) if self._slow else take()


async def _in_daemon_thread(work: Callable[[], T]) -> T:
    """What `work` returns. Unlike asyncio's own threads, one that waits for stdin does not keep Ctrl-C from working."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(outcome: Callable[[], None]) -> None:
        if not future.done():
            outcome()

    def run() -> None:
        try:
            outcome = functools.partial(future.set_result, work())
        except Exception as error:  # noqa: BLE001 - raised again where it is awaited
            outcome = functools.partial(future.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits any more
            loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=run, daemon=True).start()
    return await future


async def _post(sender: Sender, destination: Destination, message: Message, retry: int) -> Result:
    for attempt in range(1, retry + 2):
        outcome = await sender.post(destination, message.head, message.body, timeout=TIMEOUT)
        if outcome.ok or attempt > retry or not (outcome.status is None or outcome.status in RETRIED):
            break
        wait = BACKOFF * 2.0 ** (attempt - 1) if outcome.retry_after is None else outcome.retry_after
        await asyncio.sleep(min(wait, LONGEST_WAIT))
    return Result(message.id, outcome.status, _detail(outcome), attempt)


def _detail(outcome: Outcome) -> str:
    """Why an event was refused, from a problem document (RFC 9457) where there is one."""
    if outcome.ok or outcome.status is None:
        return outcome.detail
    if b"json" in dict(outcome.headers).get(b"content-type", b""):
        with contextlib.suppress(msgspec.DecodeError):
            problem = msgspec.json.decode(outcome.body)
            if isinstance(problem, dict) and (detail := problem.get("detail") or problem.get("title")):
                return str(detail)
    return outcome.body[:500].decode(errors="replace").strip()


@dataclass
class Report:
    """Tells what became of the events: as it happens, and in the end. `total` is None where it is not known before."""

    url: str
    output: Output
    total: int | None
    _seen: int = 0
    _headed: bool = False
    _refused: Counter[int | None] = field(default_factory=Counter)
    _began: float = field(default_factory=time.monotonic)
    _progress: rich.progress.Progress | None = None

    def __enter__(self) -> None:
        if self.total is not None and self.total > SHOWN:
            self._start_progress()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def add(self, result: Result) -> None:
        """One more event is done."""
        self._seen += 1
        if not result.accepted:
            self._refused[result.status] += 1
        if self.output is Output.JSON:
            console.document(
                {
                    "id": result.id,
                    "accepted": result.accepted,
                    "status": result.status,
                    "detail": result.detail,
                    "attempts": result.attempts,
                }
            )
        elif self._is_shown(result):
            self._show(result)
        if self._seen == SHOWN + 1 and self.total is None:
            self._start_progress()
        if self._progress is not None:
            self._progress.advance(self._progress.task_ids[0])

    def finish(self, trouble: str) -> None:
        """The summary, and exit code 1 unless every event was accepted and there is no `trouble`."""
        refused = self._refused.total()
        if self.output is Output.TABLE and self._seen > 1:
            took = time.monotonic() - self._began
            speed = f"{took:.1f} s, {self._seen / max(took, 0.001):.0f}/s"
            console.line(f"{self._seen - refused} of {console.count(self._seen, 'event')} accepted ({speed})")
        if trouble:
            console.fail(f"{trouble} ({self._seen - refused} accepted before that)")
        if refused:
            status, _ = self._refused.most_common(1)[0]
            console.fail(f"{refused} of {console.count(self._seen, 'event')} not accepted; {advice(status, self.url)}")

    def _is_shown(self, result: Result) -> bool:
        if not result.accepted:
            return self._refused.total() <= SHOWN
        return self._seen <= SHOWN and (self.total is None or self.total <= SHOWN)

    def _show(self, result: Result) -> None:
        if not self._headed:
            self._headed = True
            console.line(f"{'ID':36}  STATUS  DETAIL")
        status = "-" if result.status is None else str(result.status)
        tries = f" (after {console.count(result.attempts, 'attempt')})" if result.attempts > 1 else ""
        detail = result.detail or ("accepted" if result.accepted else "")
        console.line(f"{console.printable(result.id):36}  {status:6}  {console.printable(detail)}{tries}")

    def _start_progress(self) -> None:
        import rich.console  # noqa: PLC0415 - only what a command needs is imported for it
        import rich.progress  # noqa: PLC0415 - as above

        terminal = rich.console.Console(stderr=True)
        if not terminal.is_terminal:
            return
        columns: tuple[Any, ...] = (*rich.progress.Progress.get_default_columns(), rich.progress.MofNCompleteColumn())
        self._progress = rich.progress.Progress(
            *columns,
            console=terminal,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # else the results would go to the terminal, not to the file
        )
        self._progress.add_task("sending", total=self.total, completed=self._seen)
        self._progress.start()


def advice(status: int | None, url: str) -> str:
    """What to do next about the answer that was given most often."""
    match status:
        case None:
            return f"nothing answers at {url}: is `penstock serve` running there? --url names another place"
        case 400:
            return "mend the event as the detail says"
        case 401 | 403:
            return "an EventPolicy of the Broker may forbid it: kubectl get eventpolicies"
        case 404:
            return f"{url} is no Broker: kubectl get brokers -A shows those that there are"
        case 413:
            return "the event is larger than the channel takes: send a reference to the data instead"
        case 429 | 503:
            return "send again with --retry 5 to wait until there is room"
        case _:
            return f"the receiver at {url} did not take it: its log should say why"
