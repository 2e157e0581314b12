"""A disk that fills up under load: publishers are refused, and when there is room everything goes on. Nothing is lost.

The data directory lies on a small tmpfs, and a ballast file takes the rest of it. Where mounting is not allowed the test
cannot run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.system.support import Penstock, Publisher, Reply, Request, broker, event, eventually, sink, trigger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIZE = 48 * 1024 * 1024
PUBLISHERS = 8


@dataclass
class Run:
    """What happened so far."""

    acknowledged: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    delivered: set[str] = field(default_factory=set)
    sent: int = 0
    ending: bool = False

    def answer(self, request: Request) -> Reply:
        self.delivered.add(request.id)
        return Reply()

    @property
    def lost(self) -> set[str]:
        return self.acknowledged - self.delivered


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(path)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True, capture_output=True)


async def _publish(run: Run, penstock: Penstock) -> None:
    publisher = Publisher(penstock.port)
    while not run.ending:
        run.sent += 1
        event_id = f"event-{run.sent}"
        with contextlib.suppress(OSError, EOFError):
            status = await publisher.post("/default/default", event(event_id), b"x" * 2000)
            run.statuses[status] += 1
            if status == 202:
                run.acknowledged.add(event_id)
            else:
                # As Retry-After asks, only sooner.
                await asyncio.sleep(0.05)
    publisher.close()


async def _room(penstock: Penstock) -> str:
    """The reason of the Broker's condition RoomAvailable, "" where it has none."""
    path = "jsonpath={.status.conditions[?(@.type=='RoomAvailable')].reason}"
    return (await asyncio.to_thread(penstock.kubectl, "get", "broker", "default", "-o", path)).stdout


def _fill(ballast: Path) -> None:
    """Take all the room that is left, to the last byte."""
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 65536)
            os.fsync(file.fileno())


@pytest.mark.system
@pytest.mark.timeout(200)
async def test_a_full_disk_refuses_and_goes_on(
    penstock: Callable[..., Penstock], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with _disk(tmp_path / "data"):
        run, one = Run(), penstock(env={"PENSTOCK_RETENTION_SIZE": "1000000"})
        await one.start()
        async with sink(run.answer) as subscriber:
            one.apply(broker(), trigger("all", f"{subscriber.url}/all"))
            one.wait_ready("broker/default", "trigger/all")
            async with asyncio.TaskGroup() as group:
                for _ in range(PUBLISHERS):
                    group.create_task(_publish(run, one))
                # Its own limit first: 90 % of 80 % of the disk, where settled events go early and publishing goes on.
                await eventually(lambda: run.statuses[202] * 2000 > SIZE, "more was taken than the disk holds", 60)
                while not (reason := await _room(one)):
                    pass
                assert reason in ("HalfFull", "NearlyFull", "Full")
                for number in range(3):
                    ballast = tmp_path / "data" / "ballast"
                    await asyncio.to_thread(_fill, ballast)
                    refused = run.statuses[503]
                    await eventually(lambda refused=refused: run.statuses[503] > refused + 20, "publishers get 503", 30)  # type: ignore[misc] # mypy has no type for a lambda with a default
                    if number == 1:
                        one.kill()
                    ballast.unlink()
                    if number == 1:
                        await one.start()
                    taken = run.statuses[202]
                    await eventually(lambda taken=taken: run.statuses[202] > taken + 500, "publishing goes on", 30)  # type: ignore[misc] # as above
                run.ending = True
            await eventually(lambda: not run.lost, "all that was acknowledged is delivered", 60)
        with capsys.disabled():
            print(  # noqa: T201 - the figures are what the test is for
                f"\nanswers {dict(run.statuses)}, delivered {len(run.delivered)}, lost {len(run.lost)}"
            )
        assert set(run.statuses) == {202, 503}
        assert await one.stop() == 0
