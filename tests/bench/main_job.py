"""What an event costs: CPU of `penstock serve` per event, beside the yardstick of the same run.

    python -m tests.bench.main_job [--events 40000] [--connections 64] [--rounds 5] [--triggers 1] [--profile FILE]

The yardstick is one bare uvicorn request under the same load. Figures are medians of the rounds; the yardstick and
Penstock alternate, since a shared machine is not equally fast all the time. `--profile` writes cProfile's data of the
server, which itself costs much: use its shares, not its times.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.system.support import Penstock, broker, free_port, trigger

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its threads (s)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory_mb(pid: int) -> float:
    """The most memory that a process has had resident (MB)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


@dataclass(frozen=True)
class Figure:
    """One round: CPU µs per event, and events per second to the end of the last delivery."""

    micros: float
    per_second: float


def load(port: int, events: int, connections: int, path: str) -> float:
    """Run the load in its own process; the seconds that it took. Fails if an event was not accepted."""
    command = [sys.executable, "-m", "tests.bench.load", str(port), str(events), str(connections), path]
    result = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    if result["accepted"] != events:
        raise SystemExit(f"only {result['accepted']} of {events} events were accepted")
    return float(result["seconds"])


class SinkProcess:
    """The subscriber in its own process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.fast_sink"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.url = f"http://127.0.0.1:{self._line()}"

    def _line(self) -> str:
        if self._process.stdout is None:
            raise RuntimeError("the subscriber has no stdout")
        return self._process.stdout.readline().strip()

    @property
    def count(self) -> int:
        if self._process.stdin is None:
            raise RuntimeError("the subscriber has no stdin")
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._line())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def yardstick(args: argparse.Namespace) -> Figure:
    """One bare uvicorn request under the same load."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "broker.bench.bare", str(port)])
    try:
        _await_port(port)
        load(port, 2000, args.connections, "/")
        before = cpu_seconds(process.pid)
        seconds = load(port, args.events, args.connections, "/")
        return Figure((cpu_seconds(process.pid) - before) / args.events * 1e6, args.events / seconds)
    finally:
        process.kill()
        process.wait()


def main_job(args: argparse.Namespace, one: Penstock, subscriber: SinkProcess) -> Figure:
    """POST, store, match, deliver, settle."""
    before, cpu, began = subscriber.count, cpu_seconds(one.pid), time.monotonic()
    load(one.port, args.events, args.connections, "/default/default")
    while subscriber.count < before + args.events:
        time.sleep(0.01)
    seconds = time.monotonic() - began
    # The last checkpoint belongs to the events as well.
    time.sleep(0.2)
    return Figure((cpu_seconds(one.pid) - cpu) / args.events * 1e6, args.events / seconds)


def _await_port(port: int) -> None:
    import socket

    for _ in range(500):
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit("the yardstick did not start")


def bench(args: argparse.Namespace) -> None:
    """Alternate yardstick and Penstock, and print the table."""
    with tempfile.TemporaryDirectory(dir=args.dir) as scratch:
        env = {"PENSTOCK_PROFILE": str(args.profile)} if args.profile else {}
        one = Penstock(Path(scratch) / "data", env=env)
        subscriber = SinkProcess()
        try:
            asyncio.run(one.start())
            miss = [
                trigger(f"miss-{n}", subscriber.url, filter={"attributes": {"type": f"other.{n}"}})
                for n in range(args.triggers - 1)
            ]
            one.apply(broker(), trigger("hit", subscriber.url, filter={"attributes": {"type": "bench.event"}}), *miss)
            one.wait_ready("broker/default", "trigger/hit")
            idle = memory_mb(one.pid)
            load(one.port, 2000, args.connections, "/default/default")
            bare, full = [], []
            for number in range(args.rounds):
                bare.append(yardstick(args))
                full.append(main_job(args, one, subscriber))
                print(
                    f"round {number + 1}: bare {bare[-1].micros:.0f} µs, penstock {full[-1].micros:.0f} µs", flush=True
                )
            _report(bare, full, idle, memory_mb(one.pid))
            asyncio.run(one.stop())
        finally:
            one.close()
            subscriber.close()


def _report(bare: list[Figure], full: list[Figure], idle: float, peak: float) -> None:
    yard = statistics.median(figure.micros for figure in bare)
    cost = statistics.median(figure.micros for figure in full)
    ratio = statistics.median(one.micros / other.micros for one, other in zip(full, bare, strict=True))
    rate = statistics.median(figure.per_second for figure in full)
    print(f"yardstick (one bare uvicorn request)  {yard:7.1f} µs")
    print(f"penstock, CPU per event               {cost:7.1f} µs = {ratio:.2f} yardsticks")
    print(f"delivered                             {rate:7.0f} events/s")
    print(f"memory                                {idle:7.1f} MB idle, {peak:.1f} MB at most")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--triggers", type=int, default=1)
    parser.add_argument("--dir", help="where the scratch data lies: a real disk, since it decides what fsync costs")
    parser.add_argument("--profile", type=Path)
    bench(parser.parse_args())
