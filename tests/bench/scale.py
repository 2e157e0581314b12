"""What many Brokers and Triggers cost when nothing happens, at the start, and when one more comes.

    python -m tests.bench.scale [--brokers 2000] [--triggers 10000] [--channel sqlite:|nats://...]

Prints how long it takes until all are Ready, how long after a restart, memory, CPU at rest, and the time from one more Trigger
to its Ready.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import httpx

from tests.bench.main_job import cpu_seconds, memory_mb
from tests.system.support import Penstock, broker, eventually, trigger

BASE = "/apis/eventing.knative.dev/v1/namespaces/default"
AT_ONCE = 16
REST = 10


async def make(client: httpx.AsyncClient, plural: str, objects: list[dict[str, object]]) -> None:
    """Create all of them."""
    left = iter(objects)

    async def work() -> None:
        for one in left:
            (await client.post(f"{BASE}/{plural}", json=one)).raise_for_status()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


async def until_ready(client: httpx.AsyncClient, plural: str, count: int) -> None:
    """Wait until so many are Ready."""
    while True:
        items = (await client.get(f"{BASE}/{plural}")).json()["items"]
        ready = sum(
            any(
                each["type"] == "Ready" and each["status"] == "True"
                for each in one.get("status", {}).get("conditions", ())
            )
            for one in items
        )
        if ready >= count:
            return
        await asyncio.sleep(1)


async def one_more(client: httpx.AsyncClient, number: int) -> float:
    """Seconds from the creation of a Trigger to its Ready."""
    name = f"more-{number}"
    began = time.monotonic()
    (await client.post(f"{BASE}/triggers", json=trigger(name, "http://127.0.0.1:9/", broker="b0"))).raise_for_status()
    while True:
        one = (await client.get(f"{BASE}/triggers/{name}")).json()
        if any(
            each["type"] == "Ready" and each["status"] == "True" for each in one.get("status", {}).get("conditions", ())
        ):
            return time.monotonic() - began
        await asyncio.sleep(0.005)


def at_rest(pid: int) -> tuple[float, float]:
    """CPU (per cent of a core) over some seconds, and memory (MB)."""
    before = cpu_seconds(pid)
    time.sleep(REST)
    return (cpu_seconds(pid) - before) / REST * 100, memory_mb(pid)


async def bench(args: argparse.Namespace) -> None:
    """Make, rest, change, restart."""
    with tempfile.TemporaryDirectory() as scratch:
        one = Penstock(Path(scratch) / "data", "--channel", args.channel)
        try:
            await one.start()
            async with httpx.AsyncClient(base_url=one.api, timeout=600) as client:
                began = time.monotonic()
                await make(client, "brokers", [broker(f"b{number}") for number in range(args.brokers)])
                await make(
                    client,
                    "triggers",
                    [
                        trigger(f"t{number}", "http://127.0.0.1:9/", broker=f"b{number % args.brokers}")
                        for number in range(args.triggers)
                    ],
                )
                print(f"created in {time.monotonic() - began:.1f} s", flush=True)
                await until_ready(client, "triggers", args.triggers)
                print(f"all Ready after {time.monotonic() - began:.1f} s", flush=True)
                await asyncio.sleep(5)
                cpu, memory = at_rest(one.pid)
                print(f"at rest: {cpu:.2f} % of a core, {memory:.0f} MB", flush=True)
                times = sorted([await one_more(client, number) for number in range(50)])
                print(
                    f"one more Trigger is Ready after {statistics.median(times) * 1e3:.0f} ms, p99 {times[-1] * 1e3:.0f} ms"
                )
            one.kill()
            began = time.monotonic()
            one.launch()
            await eventually(one.ready, "it is ready again", 120)
            print(f"ready {time.monotonic() - began:.1f} s after a kill", flush=True)
            await asyncio.sleep(20)
            cpu, memory = at_rest(one.pid)
            print(f"at rest: {cpu:.2f} % of a core, {memory:.0f} MB", flush=True)
        finally:
            one.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", type=int, default=2000)
    parser.add_argument("--triggers", type=int, default=10000)
    parser.add_argument("--channel", default="sqlite:")
    asyncio.run(bench(parser.parse_args()))
