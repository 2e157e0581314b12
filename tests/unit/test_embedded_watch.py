"""Watches of the embedded Kubernetes API, on a real socket."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn

from controller.embedded import watch
from controller.embedded.routes import embedded_api
from controller.embedded.store import Store, open_store
from controller.objects.kind import Column, JsonObject, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from controller.embedded.routes import EmbeddedApi

TOYS = "/apis/toys.example.com/v1/toys"
HOME = "/apis/toys.example.com/v1/namespaces/home/toys"
MERGE = {"content-type": "application/merge-patch+json"}
TOY = Kind(
    "toys.example.com", "v1", "Toy", "toys", "toy", status=True, columns=(Column("Size", json_path=".spec.size"),)
)


class Api:
    """A client of a served API, and what stands behind it."""

    def __init__(self, client: httpx.AsyncClient, store: Store, app: EmbeddedApi) -> None:
        self.client = client
        self.store = store
        self.app = app

    async def make(self, name: str, path: str = HOME, **rest: Any) -> int:
        answer = await self.client.post(path, json={"metadata": {"name": name} | rest, "spec": {"size": 0}})
        assert answer.status_code == 201, answer.text
        return int(answer.json()["metadata"]["resourceVersion"])

    async def patch(self, name: str, patch: JsonObject) -> None:
        answer = await self.client.patch(f"{HOME}/{name}", json=patch, headers=MERGE)
        assert answer.status_code == 200, answer.text

    async def delete(self, name: str) -> None:
        assert (await self.client.delete(f"{HOME}/{name}")).status_code == 200

    @asynccontextmanager
    async def watch(self, path: str = TOYS, accept: str = "*/*", **query: Any) -> AsyncGenerator[Events, None]:
        params = {"watch": "true"} | query
        async with self.client.stream("GET", path, params=params, headers={"accept": accept}) as answer:
            if answer.status_code != 200:
                await answer.aread()
            assert answer.status_code == 200, answer.text
            yield Events(answer)


class Events:
    """The events of one watch."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines: AsyncIterator[str] = answer.aiter_lines()

    async def next(self) -> JsonObject:
        event: JsonObject = json.loads(await anext(self._lines))
        return event

    async def seen(self, count: int) -> list[tuple[str, str]]:
        """Type and name of the next events."""
        events = [await self.next() for _ in range(count)]
        return [(event["type"], event["object"]["metadata"]["name"]) for event in events]

    async def rest(self) -> list[JsonObject]:
        return [json.loads(line) async for line in self._lines]


@asynccontextmanager
async def served(path: Path, keep: int = 10_000) -> AsyncGenerator[Api, None]:
    async with open_store(path / "api.db", keep=keep) as store:
        app = embedded_api((TOY,), store)
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off", access_log=False))
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server._serve())
            while not server.started:
                assert not serving.done()
                await asyncio.sleep(0.01)
            url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
            async with httpx.AsyncClient(base_url=url) as client:
                yield Api(client, store, app)
            app.end_watches()
            server.should_exit = True


@pytest.fixture
async def api(tmp_path: Path) -> AsyncGenerator[Api, None]:
    async with served(tmp_path) as running:
        yield running


async def test_from_nothing_on(api: Api) -> None:
    """Without a resourceVersion: what is there counts as added, then every change once, in order."""
    await api.make("bear")
    async with api.watch() as events:
        assert await events.seen(1) == [("ADDED", "bear")]
        await api.make("fox")
        await api.patch("bear", {"spec": {"size": 1}})
        await api.delete("bear")
        assert await events.seen(3) == [("ADDED", "fox"), ("MODIFIED", "bear"), ("DELETED", "bear")]


async def test_from_a_revision_on(api: Api) -> None:
    """A watch from a list's resourceVersion has neither what was in it nor a gap after it."""
    await api.make("old")
    version = (await api.client.get(TOYS)).json()["metadata"]["resourceVersion"]
    await api.make("between")
    async with api.watch(resourceVersion=version) as events:
        assert await events.seen(1) == [("ADDED", "between")]
        await api.make("after")
        event = await events.next()
        assert event["object"]["metadata"]["resourceVersion"] == str(api.store.revision)


async def test_nothing_is_missed_or_repeated_under_load(api: Api) -> None:
    """Watches that break off and go on while objects are written see each revision once, in order."""
    total = 120

    async def write() -> None:
        await api.make("bear")
        for size in range(1, total):
            await api.patch("bear", {"spec": {"size": size}})

    async def follow() -> list[int]:
        sizes: list[int] = []
        version = "0"
        while len(sizes) < total:
            async with api.watch(resourceVersion=version) as events:
                for _ in range(min(7, total - len(sizes))):
                    event = await events.next()
                    version = event["object"]["metadata"]["resourceVersion"]
                    sizes.append(event["object"]["spec"]["size"])
        return sizes

    async with asyncio.TaskGroup() as tasks:
        followers = [tasks.create_task(follow()) for _ in range(3)]
        tasks.create_task(write())
    for follower in followers:
        assert follower.result() == list(range(total))


async def test_deletion_has_a_revision_of_its_own(api: Api) -> None:
    """DELETED carries the last state with the newer resourceVersion."""
    version = await api.make("bear")
    async with api.watch(resourceVersion=version) as events:
        await api.delete("bear")
        event = await events.next()
    assert event["object"]["spec"] == {"size": 0}
    assert int(event["object"]["metadata"]["resourceVersion"]) == version + 1


async def test_selectors(api: Api) -> None:
    """Leaving the selection is a deletion with the state before it, entering it an addition."""
    version = await api.make("bear", labels={"shelf": "top"})
    await api.make("fox", path=HOME.replace("home", "away"))
    async with api.watch(HOME, resourceVersion=version, labelSelector="shelf=top") as events:
        await api.patch("bear", {"spec": {"size": 1}})
        await api.patch("bear", {"metadata": {"labels": {"shelf": "low"}}})
        await api.patch("bear", {"spec": {"size": 2}})
        await api.patch("bear", {"metadata": {"labels": {"shelf": "top"}}})
        got = [await events.next() for _ in range(3)]
    assert [event["type"] for event in got] == ["MODIFIED", "DELETED", "ADDED"]
    assert [event["object"]["spec"]["size"] for event in got] == [1, 1, 2]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in got]
    assert versions == sorted(set(versions))
    async with api.watch(fieldSelector="metadata.name=fox", timeoutSeconds=1) as events:
        assert [event["object"]["metadata"]["name"] for event in await events.rest()] == ["fox"]


async def test_tables(api: Api) -> None:
    """Each event is a Table of one row; only the first has the columns."""
    await api.make("bear")
    async with api.watch(accept="application/json;as=Table;v=v1;g=meta.k8s.io") as events:
        first = (await events.next())["object"]
        await api.patch("bear", {"spec": {"size": 1}})
        second = (await events.next())["object"]
    assert [column["name"] for column in first["columnDefinitions"]] == ["Name", "Size"]
    assert second["columnDefinitions"] is None
    assert second["rows"][0]["cells"] == ["bear", "1"]


async def test_timeout_and_last_bookmark(api: Api) -> None:
    """A watch ends by its timeout in good order; with bookmarks it says where it stands."""
    await api.make("bear")
    async with api.watch(resourceVersion=1, timeoutSeconds=1) as events:
        assert await events.rest() == []
    async with api.watch(resourceVersion=1, timeoutSeconds=1, allowWatchBookmarks="true") as events:
        metadata = {"resourceVersion": "1", "creationTimestamp": None}
        bookmark = {"kind": "Toy", "apiVersion": "toys.example.com/v1", "metadata": metadata}
        assert await events.rest() == [{"type": "BOOKMARK", "object": bookmark}]


async def test_bookmarks_come_while_nothing_happens(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quiet watch still learns how far the log has come."""
    monkeypatch.setattr(watch, "BOOKMARK_SECONDS", 0.05)
    await api.make("bear")
    async with api.watch(resourceVersion=1, allowWatchBookmarks="true") as events:
        assert [(await events.next())["type"] for _ in range(2)] == ["BOOKMARK", "BOOKMARK"]


async def test_a_busy_log_holds_up_neither_bookmarks_nor_the_end(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes that a watch does not select still move its bookmarks on, and it ends in time."""
    monkeypatch.setattr(watch, "BOOKMARK_SECONDS", 0.05)
    await api.make("bear")
    query: dict[str, Any] = {"resourceVersion": 1, "allowWatchBookmarks": "true", "timeoutSeconds": 1}
    async with api.watch(HOME.replace("home", "away"), **query) as events, asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(keep_writing(api))
        bookmarks = [event["object"]["metadata"]["resourceVersion"] for event in await events.rest()]
        writing.cancel()
    assert len(set(bookmarks)) > 1
    assert bookmarks == sorted(bookmarks, key=int)


async def keep_writing(api: Api) -> None:
    size = 0
    while True:
        size += 1
        await api.patch("bear", {"spec": {"size": size}})


async def test_too_old(tmp_path: Path) -> None:
    """Before the log's start: an ERROR event with the Status 410, then the end."""
    async with served(tmp_path, keep=5) as api:
        await api.make("bear")
        for size in range(1, 20):
            await api.patch("bear", {"spec": {"size": size}})
        async with api.watch(resourceVersion=1) as events:
            (event,) = await events.rest()
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
    assert event["object"]["message"].startswith("too old resource version: 1 (")


async def test_from_the_future(api: Api) -> None:
    """After the log's end: an ERROR event with 504 and the cause that client-go looks for."""
    async with api.watch(resourceVersion=99) as events:
        (event,) = await events.rest()
    assert event["object"]["code"] == 504
    assert event["object"]["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


async def test_initial_events_are_refused(api: Api) -> None:
    """As by a server without the feature, so that clients fall back to list and watch."""
    answer = await api.client.get(TOYS, params={"watch": "1", "sendInitialEvents": "true"})
    assert (answer.status_code, answer.json()["reason"]) == (422, "Invalid")
    assert answer.json()["details"]["causes"][0]["reason"] == "FieldValueForbidden"


async def test_a_client_that_leaves_frees_its_watch(api: Api) -> None:
    """No task is left behind, though nothing was ever sent."""
    async with api.watch(resourceVersion=0):
        tasks = [task for task in asyncio.all_tasks() if task.get_name().startswith("watch ")]
        assert tasks
    await asyncio.wait(tasks)


async def test_end_watches(api: Api) -> None:
    """Open watches end in good order, and later ones at once."""
    async with api.watch() as events:
        api.app.end_watches()
        assert await events.rest() == []
    async with api.watch() as events:
        assert await events.rest() == []


async def test_a_reader_that_stops_reading_costs_no_memory(tmp_path: Path) -> None:
    """A watch whose client does not read stands still; when it reads again after compaction it is told 410."""
    async with served(tmp_path, keep=20) as api:
        await api.make("bear")
        async with api.watch() as events:
            assert await events.seen(1) == [("ADDED", "bear")]
            blob = "x" * 500_000
            for size in range(1, 60):
                await api.patch("bear", {"spec": {"size": size, "blob": blob}})
            got = await events.rest()
    assert got[-1]["type"] == "ERROR"
    assert got[-1]["object"]["code"] == 410
    sizes = [event["object"]["spec"]["size"] for event in got[:-1]]
    assert sizes == list(range(1, len(sizes) + 1))
