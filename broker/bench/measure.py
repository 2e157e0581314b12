"""Runs this installation under load and counts what it costs.

Each figure is CPU time, user and system, of all threads of the process, from /proc. On a shared machine events per second
vary much from run to run; CPU time does so less, and its ratio to the yardstick of the same run least of all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

from broker.bench.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from broker.bench.tools import Tools
    from controller.kube.client import KubeClient

CONNECTIONS: Final = 64
BODY: Final = b'{"pad": "' + b"x" * 1000 + b'"}'
KIND: Final = "bench.event"
WARM_UP: Final = 2.0
PATIENCE: Final = 60.0
_EVENT: Final = (
    "Content-Type: application/json\nCe-Specversion: 1.0\nCe-Id: 1\nCe-Source: /bench\n"
    f"Ce-Type: {KIND}\nCe-Time: 2026-01-01T00:00:00Z\nCe-Subject: order-1\n"
)


class BenchFailed(Exception):
    """A measurement could not be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is measured: so many Triggers, of which so many match each event, at `rate` events a second (0: all it takes)."""

    name: str
    triggers: int
    matching: int
    rate: int = 0


ROWS: Final = (
    Row("1 Trigger", 1, 1),
    Row("1,000 Triggers, one matches", 1000, 1),
    Row("10 Triggers, all match", 10, 10),
    Row("1 Trigger, 500 events/s", 1, 1, rate=500),
)


@dataclass(frozen=True, slots=True)
class Figure:
    """The medians of some runs: µs of CPU per event, per yardstick and per delivery at the sink, and events per second."""

    row: Row
    micros: float
    yardstick: float
    ratio: float
    sink: float
    per_second: float


@dataclass(frozen=True, slots=True)
class _Run:
    """One run under load: µs of CPU per request, requests per second."""

    micros: float
    per_second: float
    requests: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How a row is measured: `runs` times `seconds` each, with Penstock on this channel."""

    runs: int
    seconds: float
    channel: str = "sqlite:"


def measure(row: Row, tools: Tools, plan: Plan, told: Callable[[], None]) -> Figure:
    """Measure a row: yardstick and Penstock in turns; `told` is called after each turn. Raises BenchFailed."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as scratch, contextlib.ExitStack() as stack:
        load = _Load(tools, Path(scratch))
        sink = stack.enter_context(_sink(tools))
        bare = stack.enter_context(_bare())
        penstock = stack.enter_context(_penstock(Path(scratch), row, sink, plan.channel))
        load(bare.url, row.rate, WARM_UP)
        _through(load, penstock, sink, row, WARM_UP)
        yardsticks, figures, sinks = [], [], []
        for _ in range(plan.runs):
            before = bare.cpu
            requests, took = load(bare.url, row.rate, plan.seconds)
            yardsticks.append(_Run((bare.cpu - before) / requests * 1e6, requests / took, requests))
            told()
            before = sink.cpu
            figures.append(_through(load, penstock, sink, row, plan.seconds))
            sinks.append((sink.cpu - before) / (figures[-1].requests * row.matching) * 1e6)
            told()
    return Figure(
        row,
        median(run.micros for run in figures),
        median(run.micros for run in yardsticks),
        median(run.micros / bare.micros for run, bare in zip(figures, yardsticks, strict=True)),
        median(sinks),
        median(run.per_second for run in figures),
    )


def _through(load: _Load, penstock: _Process, sink: _Process, row: Row, seconds: float) -> _Run:
    """Load, and wait until everything was delivered and the last checkpoint was written."""
    before, cpu, began = _count(sink), penstock.cpu, time.monotonic()
    requests, _ = load(f"{penstock.url}/default/default", row.rate, seconds)
    deadline = time.monotonic() + PATIENCE
    while _count(sink) < before + requests * row.matching:
        if time.monotonic() > deadline:
            raise BenchFailed(f"{row.name}: not everything was delivered within {PATIENCE:g} s")
        time.sleep(0.02)
    took = time.monotonic() - began
    time.sleep(0.2)
    return _Run((penstock.cpu - cpu) / requests * 1e6, requests / took, requests)


class _Load:
    """Posts with vegeta, in a process of its own."""

    def __init__(self, tools: Tools, scratch: Path) -> None:
        self._tools = tools
        self._body = scratch / "body.json"
        self._body.write_bytes(BODY)

    def __call__(self, url: str, rate: int, seconds: float) -> tuple[int, float]:
        """How many requests were answered with 202, and in how many seconds. Raises BenchFailed for another answer."""
        target = f"POST {url}\n{_EVENT}@{self._body}\n"
        attack = [str(self._tools.vegeta), "attack", f"-rate={rate}", f"-duration={seconds}s"]
        attack += [f"-workers={CONNECTIONS}", f"-max-workers={CONNECTIONS}"]
        results = subprocess.run(attack, input=target.encode(), capture_output=True, check=True).stdout  # noqa: S603 - our own command
        report = [str(self._tools.vegeta), "report", "-type=json"]
        done = json.loads(subprocess.run(report, input=results, capture_output=True, check=True).stdout)  # noqa: S603 - as above
        if set(done["status_codes"]) != {"202"}:
            raise BenchFailed(f"{url} answered {done['status_codes']}: {'; '.join(done['errors'][:3])}")
        return int(done["requests"]), (done["duration"] + done["wait"]) / 1e9


@dataclass(frozen=True, slots=True)
class _Process:
    """A server that runs: its URL, and what it has cost so far."""

    url: str
    pid: int

    @property
    def cpu(self) -> float:
        """User and system time of all its threads (s)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _running(command: list[str], log: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(log.open("w")) if log else subprocess.PIPE
        process = subprocess.Popen(command, stdout=out, stderr=out if log else None, text=True)  # noqa: S603 - our own commands
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _sink(tools: Tools) -> Iterator[_Process]:
    with _running([str(tools.sink)]) as process:
        port = process.stdout.readline().strip() if process.stdout else ""
        yield _Process(f"http://127.0.0.1:{port}", process.pid)


def _count(sink: _Process) -> int:
    with urllib.request.urlopen(sink.url, timeout=10) as answer:  # noqa: S310 - a URL of our own
        return int(answer.read())


@contextlib.contextmanager
def _bare() -> Iterator[_Process]:
    """The yardstick."""
    port = free_port()
    with _running([sys.executable, "-m", "broker.bench.bare", str(port)]) as process:
        one = _Process(f"http://127.0.0.1:{port}", process.pid)
        _await_answer(one.url, process, None)
        yield one


@contextlib.contextmanager
def _penstock(scratch: Path, row: Row, sink: _Process, channel: str) -> Iterator[_Process]:
    port, api, data, log = free_port(), free_port(), scratch / "data", scratch / "log"
    command = [sys.executable, "-m", "broker", "serve", "--data", str(data)]
    command += ["--listen", f"127.0.0.1:{port}", "--api", f"127.0.0.1:{api}", "--channel", _own_place(channel)]
    with _running(command, log) as process:
        one = _Process(f"http://127.0.0.1:{port}", process.pid)
        _await_answer(f"{one.url}/readyz", process, log)
        asyncio.run(_prepare(data / "kubeconfig", row, sink.url))
        yield one


def _own_place(channel: str) -> str:
    """The channel with a prefix that nobody else has: a server may have the events of others."""
    if channel == "sqlite:":
        return channel
    parts = urlsplit(channel)
    return urlunsplit(parts._replace(path=f"/bench-{secrets.token_hex(4)}"))


def _await_answer(url: str, process: subprocess.Popen[str], log: Path | None) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310 - a URL of our own
            return
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text()[-500:] if log else ""
            raise BenchFailed(f"{url} does not answer: {said}")
        time.sleep(0.02)


async def _prepare(kubeconfig: Path, row: Row, url: str) -> None:
    """Make the Broker and its Triggers, and wait until they are Ready."""
    from controller.kube.client import KubeClient  # noqa: PLC0415 - only needed where something is measured
    from controller.kube.config import load_kubeconfig  # noqa: PLC0415 - as above
    from controller.objects.eventing_kinds import broker_kind, trigger_kind  # noqa: PLC0415 - as above

    async with KubeClient(load_kubeconfig(kubeconfig)) as kube:
        await kube.create(broker_kind(), _object("Broker", "default", {}))
        for number in range(row.triggers):
            kind = KIND if number < row.matching else f"other.{number}"
            filters = {"attributes": {"type": kind}}
            spec = {"broker": "default", "filter": filters, "subscriber": {"uri": url}}
            await kube.create(trigger_kind(), _object("Trigger", f"t{number}", spec))
        async with asyncio.timeout(PATIENCE):
            while not await _all_ready(kube, row.triggers):  # noqa: ASYNC110 - what is waited for happens in another process
                await asyncio.sleep(0.1)


async def _all_ready(kube: KubeClient, triggers: int) -> bool:
    from controller.objects.eventing_kinds import trigger_kind  # noqa: PLC0415 - only needed where something is measured
    from controller.objects.views import condition_of  # noqa: PLC0415 - as above

    items = (await kube.list(trigger_kind(), "default")).items
    ready = [one for one in items if (condition_of(one, "Ready") or {}).get("status") == "True"]
    return len(ready) == triggers


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "eventing.knative.dev/v1", "kind": kind, "metadata": metadata, "spec": spec}
