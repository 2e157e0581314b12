"""What a person does with dead letters: look, try again, discard; with our command and with kubectl."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.system.support import Penstock, Reply, Request, broker, event, eventually, publishing, sink, trigger

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.system


def _command(one: Penstock, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "broker", "deadletters", *args, "--kubeconfig", str(one.data / "kubeconfig")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


async def test_retry_and_discard(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()
    broken = True

    def answer(request: Request) -> Reply:  # noqa: ARG001 - every request is answered alike
        return Reply(400 if broken else 204)

    async with sink(answer) as subscriber, publishing(one.port) as publisher:
        one.apply(broker(), trigger("t", subscriber.url))
        one.wait_ready("trigger/t")
        for number in range(3):
            assert await publisher.post("/default/default", event(f"e{number}"), b"data") == 202
        await eventually(lambda: len(one.dead_letters()) == 3, "all are dead")

        listed = _command(one, "list", "-o", "json")
        items = [json.loads(row) for row in listed.stdout.splitlines()]
        assert {item["spec"]["event"]["id"] for item in items} == {"e0", "e1", "e2"}
        assert "the answer was 400" in _command(one, "list", "--trigger", "t").stdout
        names = {item["spec"]["event"]["id"]: item["metadata"]["name"] for item in items}
        assert json.loads(_command(one, "show", names["e0"]).stdout)["spec"]["attempts"][0]["status"] == 400

        assert _command(one, "discard", names["e0"]).stdout == f"{names['e0']} discarded\n"
        one.kubectl("delete", "deadletter", names["e1"])
        assert [letter["spec"]["event"]["id"] for letter in one.dead_letters()] == ["e2"]

        broken = False
        seen = len(subscriber.requests)
        assert "will be delivered again" in _command(one, "retry", names["e2"]).stdout
        await eventually(lambda: subscriber.ids()[seen:] == ["e2"], "it is delivered again")
        assert subscriber.requests[-1].body == b"data"
        await eventually(lambda: one.dead_letters() == [], "and gone")


async def test_errors_are_one_line(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()
    missing = _command(one, "retry", "0" * 32)
    assert (missing.returncode, len(missing.stderr.splitlines())) == (1, 1)
    assert "not found" in missing.stderr
    assert _command(one, "retry").returncode == 2
