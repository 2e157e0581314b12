"""No Trigger stands in another's way: the p99 of the others while one hangs, or replays a backlog.

    python -m tests.bench.isolation hang|replay [--rate 300] [--seconds 10] [--pairs 5] [--backlog 100000]

Fifty Triggers get one type each at a fixed rate. Runs alternate: with the disturbance, and without. Prints the p50 and p99 (ms
from the moment at which an event was due to its arrival at the subscriber) and the median of the ratios of the p99.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.main_job import SinkProcess, load
from tests.system.support import Penstock, broker, trigger

TRIGGERS = 50


class Delays:
    """The subscriber in its own process."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.bench.timing_sink"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{self._line()}"

    def _line(self) -> str:
        if self._process.stdout is None:
            raise RuntimeError("the subscriber has no stdout")
        return self._process.stdout.readline().strip()

    def take(self) -> list[float]:
        """The delays (ms) since the last call."""
        if self._process.stdin is None:
            raise RuntimeError("the subscriber has no stdin")
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return sorted(json.loads(self._line()))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def measure(args: argparse.Namespace, one: Penstock, delays: Delays) -> tuple[float, float]:
    """p50 and p99 of one run."""
    delays.take()
    command = [sys.executable, "-m", "tests.bench.paced", str(one.port), str(args.rate), str(args.seconds)]
    done = subprocess.run([*command, "/default/default", str(TRIGGERS)], check=True, capture_output=True, text=True)
    result = json.loads(done.stdout)
    if result["accepted"] != result["sent"]:
        raise SystemExit(f"only {result['accepted']} of {result['sent']} events were accepted")
    time.sleep(0.5)
    seen = delays.take()
    return seen[len(seen) // 2], seen[int(len(seen) * 0.99)]


def disturb(args: argparse.Namespace, one: Penstock, delays: Delays, other: SinkProcess, number: int) -> None:
    """Begin the disturbance: Trigger 0 hangs, or a new Trigger gets the whole backlog."""
    if args.what == "hang":
        one.apply(_trigger(0, f"{delays.url}/hang"))
        one.wait_ready("trigger/t0")
        return
    early = {"penstock.dev/start": "earliest"}
    replay = trigger(f"replay-{number}", other.url, annotations=early, filter={"attributes": {"type": "bench.event"}})
    one.apply(replay)


def calm(args: argparse.Namespace, one: Penstock, delays: Delays, number: int) -> None:
    """End it."""
    if args.what == "hang":
        one.apply(_trigger(0, delays.url))
        one.wait_ready("trigger/t0")
    else:
        one.kubectl("delete", "trigger", f"replay-{number}")
    time.sleep(1)


def _trigger(number: int, url: str) -> dict[str, object]:
    return trigger(f"t{number}", url, filter={"attributes": {"type": f"bench.{number}"}}, delivery={"timeout": "PT1M"})


def bench(args: argparse.Namespace) -> None:
    """Run the pairs."""
    with tempfile.TemporaryDirectory() as scratch:
        one, delays, other = Penstock(Path(scratch) / "data"), Delays(), SinkProcess()
        try:
            asyncio.run(one.start())
            one.apply(broker(), *(_trigger(number, delays.url) for number in range(TRIGGERS)))
            one.wait_ready(*(f"trigger/t{number}" for number in range(TRIGGERS)))
            if args.what == "replay":
                load(one.port, args.backlog, 64, "/default/default")
            measure(args, one, delays)
            ratios = []
            for number in range(args.pairs):
                quiet = measure(args, one, delays)
                disturb(args, one, delays, other, number)
                before = other.count
                noisy = measure(args, one, delays)
                calm(args, one, delays, number)
                replayed = other.count - before
                ratios.append(noisy[1] / quiet[1])
                print(
                    f"pair {number + 1}: p50 {quiet[0]:.1f} and {noisy[0]:.1f} ms, p99 {quiet[1]:.1f} and {noisy[1]:.1f} ms"
                    f", {replayed / args.seconds:.0f} replayed a second",
                    flush=True,
                )
            print(f"{args.what}: median of the ratios of p99 {statistics.median(ratios):.2f}")
            asyncio.run(one.stop())
        finally:
            one.close()
            delays.close()
            other.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("hang", "replay"))
    parser.add_argument("--rate", type=float, default=300)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--backlog", type=int, default=100_000)
    bench(parser.parse_args())
