"""What is written of a status, in which order, and what becomes of a write that fails."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from controller.kube.client import KubeClient
from controller.kube.config import KubeConfig
from controller.objects.annotations import lane_notes
from controller.objects.kind import Kind, ObjectKey
from controller.statuses import StatusWriter, status_patch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from controller.objects.kind import JsonObject

TRIGGER = Kind("eventing.knative.dev", "v1", "Trigger", "triggers", "trigger", status=True)
KEY = ObjectKey(TRIGGER.group, TRIGGER.kind, "ns", "t")


@pytest.mark.parametrize(
    ("present", "status", "notes", "patch"),
    [
        pytest.param({}, {"a": 1}, {}, {"a": 1}, id="new"),
        pytest.param({"a": 1}, {"a": 1}, {}, {}, id="as it is"),
        pytest.param({"a": 1, "b": 2}, {"a": 1}, {}, {"b": None}, id="gone"),
        pytest.param({"a": 1}, None, {}, {}, id="nothing said"),
        pytest.param({"annotations": {"theirs": "x"}}, {"a": 1}, {}, {"a": 1}, id="annotations of others stay"),
        pytest.param({}, None, {"n": "1"}, {"annotations": {"n": "1"}}, id="note"),
        pytest.param({"annotations": {"n": "1"}}, None, {"n": "1"}, {}, id="known note"),
        pytest.param({"annotations": {"n": "1"}}, None, {"n": None}, {"annotations": {"n": None}}, id="note gone"),
        pytest.param({}, None, {"n": None}, {}, id="note that never was"),
    ],
)
def test_only_what_differs_is_written(
    present: JsonObject, status: JsonObject | None, notes: dict[str, str | None], patch: JsonObject
) -> None:
    assert status_patch(present, status, notes) == patch


def test_that_positions_were_skipped_is_never_taken_back() -> None:
    """After a restart nobody counts them any more, and they are lost all the same."""
    assert lane_notes("", 0, 0, 77)["penstock.dev/skipped"] == "77 positions at most"
    assert "penstock.dev/skipped" not in lane_notes("", 0, 0, 0)


class Server:
    """Holds one Trigger, merges what is patched (flatly), and fails where a test says so."""

    def __init__(self) -> None:
        self.status: JsonObject = {}
        self.patches: list[Any] = []
        self.failures: list[int] = []
        self.gate: asyncio.Event | None = None

    async def answer(self, request: httpx.Request) -> httpx.Response:
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            return httpx.Response(self.failures.pop(0), json={"kind": "Status"})
        patch = json.loads(request.content)["status"]
        self.patches.append(patch)
        self.status = {name: value for name, value in {**self.status, **patch}.items() if value is not None}
        return httpx.Response(200, json=self.object)

    @property
    def object(self) -> JsonObject:
        return {"metadata": {"name": "t", "namespace": "ns"}, "status": self.status}


@contextlib.asynccontextmanager
async def writing(server: Server) -> AsyncIterator[StatusWriter]:
    known: dict[ObjectKey, JsonObject] = {KEY: server.object}
    async with KubeClient(KubeConfig(server="http://k"), httpx.MockTransport(server.answer)) as kube:
        kinds = {(TRIGGER.group, TRIGGER.kind): TRIGGER}
        writer = StatusWriter(kube, kinds, known.get, known.__setitem__)
        task = asyncio.create_task(writer.run())
        try:
            yield writer
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in the writer's tasks
            await asyncio.sleep(0.001)


async def test_the_newest_status_wins_while_one_is_being_written() -> None:
    server = Server()
    server.gate = asyncio.Event()
    async with writing(server) as writer:
        writer.put(KEY, {"a": 1})
        await asyncio.sleep(0)
        writer.put(KEY, {"a": 2})
        writer.put(KEY, {"a": 3})
        server.gate.set()
        await until(lambda: server.status == {"a": 3})
    assert server.patches[-1] == {"a": 3}
    assert {"a": 2} not in server.patches


async def test_a_write_that_fails_is_tried_again_with_what_was_said_since() -> None:
    server = Server()
    server.failures = [500, 409]
    async with writing(server) as writer:
        writer.put(KEY, {"a": 1})
        await until(lambda: len(server.failures) < 2)
        writer.note(KEY, {"n": "1"})
        await until(lambda: server.status)
    assert server.status == {"a": 1, "annotations": {"n": "1"}}


async def test_an_object_that_is_gone_is_forgotten() -> None:
    server = Server()
    server.failures = [404]
    async with writing(server) as writer:
        writer.put(KEY, {"a": 1})
        await until(lambda: not server.failures)
        writer.put(KEY, {"a": 2})
        await until(lambda: server.status == {"a": 2})
    assert server.patches == [{"a": 2}]
