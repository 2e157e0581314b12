"""A Reflector against a real HTTP server that answers by a script: it resumes, relists, waits, and tells each change once."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs

import pytest
import uvicorn

from controller.kube.client import KubeClient
from controller.kube.config import KubeConfig
from controller.kube.errors import ApiUnavailable
from controller.kube.reflector import Pace, Reflector, Selection
from controller.objects.kind import Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from contextlib import AbstractContextManager

    from controller.objects.kind import JsonObject, ObjectKey

BROKER = Kind("eventing.knative.dev", "v1", "Broker", "brokers", "broker")


@dataclass
class Answer:
    """One scripted answer: the chunks of its body, and how it ends (`hold`: only when the client goes away)."""

    chunks: tuple[bytes, ...] = ()
    status: int = 200
    end: Literal["close", "break", "hold"] = "close"
    headers: dict[str, str] = field(default_factory=dict)


class ScriptedServer:
    """An ASGI application that gives the answers in order, then holds every request open and sets `done`."""

    def __init__(self, script: list[Answer]) -> None:
        self._script = script
        self.queries: list[dict[str, str]] = []
        self.done = asyncio.Event()
        self.hung_up = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        query = parse_qs(scope["query_string"].decode())
        self.queries.append({name: values[0] for name, values in query.items()})
        answer = self._script.pop(0) if self._script else Answer(end="hold")
        headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        for chunk in answer.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if answer.end == "break":
            raise ConnectionAbortedError("as the script says")
        if answer.end == "hold":
            self.done.set()
            while (await receive())["type"] != "http.disconnect":
                pass
            self.hung_up.set()
        await send({"type": "http.response.body"})

    def asked(self) -> list[str]:
        """`list` or `watch VERSION` for each request so far."""
        return [f"watch {query['resourceVersion']}" if "watch" in query else "list" for query in self.queries]


class QuietServer(uvicorn.Server):
    """Leaves the signals to pytest."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override] # a generator is one of these
        return nullcontext()


@dataclass
class Watched:
    """A running Reflector, its server, and what was seen."""

    server: ScriptedServer
    reflector: Reflector
    told: list[tuple[str, str | None]]
    delays: list[float]
    live: list[bool]
    task: asyncio.Task[None]


@asynccontextmanager
async def serving(app: ScriptedServer, sock: socket.socket) -> AsyncIterator[None]:
    server = QuietServer(uvicorn.Config(app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1))
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets=[sock]))
        yield
        server.should_exit = True


@asynccontextmanager
async def reflecting(
    script: list[Answer],
    *,
    on_change: Callable[[ObjectKey, JsonObject | None], None] | None = None,
    server_up: asyncio.Event | None = None,
    up_after: int = 0,
    settled: float = 60.0,
    optional: bool = False,
    seed: Iterable[JsonObject] = (),
) -> AsyncIterator[Watched]:
    """A Reflector of the Brokers in `team`; sleeps are recorded, not slept. With `server_up` the server starts late."""
    app = ScriptedServer(script)
    told: list[tuple[str, str | None]] = []
    delays: list[float] = []
    live: list[bool] = []

    async def sleep(seconds: float) -> None:
        delays.append(seconds)
        live.append(reflector.live)
        if server_up is not None and len(delays) == up_after:
            server_up.set()
        await asyncio.sleep(0)

    def tell(key: ObjectKey, obj: JsonObject | None) -> None:
        told.append((f"{key.namespace}/{key.name}", None if obj is None else obj["metadata"]["resourceVersion"]))

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        if server_up is None:
            sock.listen()
        async with KubeClient(KubeConfig(server=f"http://127.0.0.1:{sock.getsockname()[1]}")) as kube:
            pace = Pace(sleep=sleep, chance=lambda: 0.0, watch=240, settled=settled)
            reflector = Reflector(kube, BROKER, on_change or tell, Selection("team"), pace, optional=optional)
            reflector.seed(seed)
            task = asyncio.create_task(reflector.run())
            if server_up is not None:
                await server_up.wait()
            async with serving(app, sock):
                try:
                    yield Watched(app, reflector, told, delays, live, task)
                finally:
                    task.cancel()
                    await asyncio.wait([task])


def obj(name: str, version: str, uid: str = "", **metadata: Any) -> JsonObject:
    metadata |= {"namespace": "team", "name": name, "uid": uid or f"uid-{name}", "resourceVersion": version}
    return {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": metadata}


def listed(version: str, *items: JsonObject) -> Answer:
    return Answer((json.dumps({"metadata": {"resourceVersion": version}, "items": items}).encode(),))


def line(kind: str, obj: JsonObject) -> bytes:
    return json.dumps({"type": kind, "object": obj}, ensure_ascii=False).encode() + b"\n"


def bookmark(version: str) -> bytes:
    return line("BOOKMARK", {"kind": "Broker", "metadata": {"resourceVersion": version}})


def failure(code: int, reason: str, *causes: str) -> JsonObject:
    details = {"causes": [{"reason": cause} for cause in causes]}
    return {"kind": "Status", "message": reason, "reason": reason, "code": code, "details": details}


EXPIRED = line("ERROR", failure(410, "Expired"))


async def test_what_is_listed_and_watched_is_told() -> None:
    """Each change is told once, bookmarks are not, and the store has what is left."""
    watch = Answer(
        (line("ADDED", obj("b", "6")), line("MODIFIED", obj("a", "7")), line("DELETED", obj("b", "8")), bookmark("9"))
    )
    async with reflecting([listed("5", obj("a", "3")), watch]) as seen:
        await seen.server.done.wait()
        assert seen.told == [("team/a", "3"), ("team/b", "6"), ("team/a", "7"), ("team/b", None)]
        assert [key.name for key in seen.reflector.store] == ["a"]
        assert seen.reflector.synced.is_set()
        assert seen.reflector.live
        assert seen.reflector.error is None


async def test_a_watch_asks_for_bookmarks_and_a_long_time() -> None:
    """Idle, there is one open request of minutes: nothing polls."""
    async with reflecting([listed("5")]) as seen:
        await seen.server.done.wait()
        assert seen.server.queries[1] == {
            "watch": "true",
            "resourceVersion": "5",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": "240",
        }


async def test_a_watch_that_ended_goes_on_from_the_last_version() -> None:
    """Bookmarks count: without them an idle kind would fall out of the server's history."""
    script = [listed("5"), Answer((line("ADDED", obj("a", "6")), bookmark("40"))), Answer((bookmark("50"),))]
    async with reflecting(script) as seen:
        await seen.server.done.wait()
        assert seen.server.asked() == ["list", "watch 5", "watch 40", "watch 50"]


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b"", id="between-lines"),
        pytest.param(line("MODIFIED", obj("a", "7"))[:-20], id="in-a-line"),
    ],
)
async def test_a_broken_stream_goes_on_from_the_last_whole_event(rest: bytes) -> None:
    """What came is kept, what was cut is asked for again."""
    broken = Answer((line("ADDED", obj("a", "6")) + rest,), end="break")
    async with reflecting([listed("5"), broken, Answer((line("MODIFIED", obj("a", "7")),))]) as seen:
        await seen.server.done.wait()
        assert seen.server.asked() == ["list", "watch 5", "watch 6", "watch 7"]
        assert seen.told == [("team/a", "6"), ("team/a", "7")]


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(Answer((EXPIRED,)), id="in-the-stream"),
        pytest.param(Answer((json.dumps(failure(410, "Expired")).encode(),), status=410), id="as-status"),
        pytest.param(
            Answer((line("ERROR", failure(504, "Timeout", "ResourceVersionTooLarge")),)), id="from-the-future"
        ),
    ],
)
async def test_an_unknown_version_is_listed_again_and_the_difference_told(refusal: Answer) -> None:
    """Deletions that nobody saw are told, and so are both halves of an object that was made again."""
    before = [obj("same", "1"), obj("changed", "2"), obj("gone", "3"), obj("again", "4", uid="first")]
    after = [obj("same", "1"), obj("changed", "12"), obj("again", "14", uid="second"), obj("new", "15")]
    async with reflecting([listed("5", *before), refusal, listed("20", *after)]) as seen:
        await seen.server.done.wait()
        assert seen.server.asked() == ["list", "watch 5", "list", "watch 20"]
        assert seen.told[4:] == [
            ("team/gone", None),
            ("team/changed", "12"),
            ("team/again", None),
            ("team/again", "14"),
            ("team/new", "15"),
        ]
        assert seen.live == [False]


async def test_the_store_outlives_the_server() -> None:
    """While no list succeeds, objects are kept, none is told as deleted, and `live` says that a list is owed."""
    script = [listed("5", obj("a", "3")), Answer((EXPIRED,)), Answer(status=503), Answer(status=403)]
    async with reflecting([*script, listed("9", obj("a", "3"))]) as seen:
        await seen.server.done.wait()
        assert seen.told == [("team/a", "3")]
        assert seen.live == [False, False, False]
        assert seen.reflector.live


async def test_failures_wait_longer_and_an_event_ends_that() -> None:
    """A list alone is no success: a server that lists but refuses each watch must not be listed at full speed."""
    refused = [listed("5"), Answer((EXPIRED,))]
    script = [*refused, *refused, *refused, listed("5"), Answer((bookmark("6"), EXPIRED)), listed("7")]
    async with reflecting(script) as seen:
        await seen.server.done.wait()
        assert seen.delays == [0.5, 1.0, 2.0, 0.5]


async def test_a_quiet_watch_that_stands_ends_it_too() -> None:
    """A server has nothing to say of a kind that nobody touches, not even a bookmark."""
    async with reflecting([Answer(status=503), listed("5")], settled=0.0) as seen:
        await seen.server.done.wait()
        assert seen.reflector.error is None
        assert seen.server.asked() == ["list", "list", "watch 5"]


async def test_the_servers_own_wish_is_heard() -> None:
    """`Retry-After` lengthens the wait."""
    async with reflecting([Answer(status=429, headers={"Retry-After": "7"}), listed("5")]) as seen:
        await seen.server.done.wait()
        assert seen.delays == [7.0]


async def test_a_server_that_is_away_at_first_is_waited_for() -> None:
    """Refused connections are retried with growing waits; `synced` comes with the first list."""
    async with reflecting([listed("5", obj("a", "3"))], server_up=asyncio.Event(), up_after=3) as seen:
        assert not seen.reflector.synced.is_set()
        assert isinstance(seen.reflector.error, ApiUnavailable)
        await seen.server.done.wait()
        assert seen.told == [("team/a", "3")]
        assert seen.delays[:3] == [0.5, 1.0, 2.0]
        assert seen.reflector.synced.is_set()


async def test_a_kind_that_is_not_installed_has_no_objects_until_it_is() -> None:
    """An optional kind is looked for at rest, and that counts as a list; deleting the kind deletes its objects."""
    absent = Answer(status=404)
    script = [absent, absent, listed("5", obj("a", "3")), Answer((EXPIRED,)), absent, listed("9")]
    async with reflecting(script, optional=True) as seen:
        await seen.server.done.wait()
        assert seen.delays == [60.0, 60.0, 0.5, 60.0]
        assert seen.told == [("team/a", "3"), ("team/a", None)]
        assert seen.reflector.synced.is_set()
        assert seen.reflector.error is None


async def test_what_it_begins_with_counts_until_the_first_list() -> None:
    """Objects from before are told at once; those that are gone meanwhile are told as deleted with the list."""
    seeds = [obj("a", "3"), obj("b", "4")]
    async with reflecting([listed("9", obj("a", "3"), obj("c", "8"))], seed=seeds) as seen:
        await seen.server.done.wait()
        assert seen.told == [("team/a", "3"), ("team/b", "4"), ("team/b", None), ("team/c", "8")]


async def test_cancelling_hangs_up() -> None:
    """The server's side of the watch is free at once."""
    async with reflecting([listed("5")]) as seen:
        await seen.server.done.wait()
        seen.task.cancel()
        await seen.server.hung_up.wait()


async def test_an_error_of_the_callback_is_not_swallowed() -> None:
    """A bug in what reacts to changes ends `run` with that error."""

    def fail(_key: ObjectKey, _obj: JsonObject | None) -> None:
        raise ZeroDivisionError

    async with reflecting([listed("5", obj("a", "3"))], on_change=fail) as seen:
        with pytest.raises(ZeroDivisionError):
            await seen.task


async def test_managed_fields_are_not_kept() -> None:
    """They are often the larger half of an object and nothing here reads them."""
    async with reflecting([listed("5", obj("a", "3", managedFields=[{"manager": "kubectl"}]))]) as seen:
        await seen.server.done.wait()
        [kept] = seen.reflector.store.values()
        assert "managedFields" not in kept["metadata"]


async def test_only_a_line_feed_ends_a_line() -> None:
    """Chunks may cut anywhere, also inside a character, and JSON may hold other separators as they are."""
    text = "a\u0085b\u2028c\u00e9"
    stream = line("ADDED", obj("a", "6", annotations={"x": text})) + b"\n" + bookmark("7")
    bytewise = Answer(tuple(bytes([byte]) for byte in stream))
    async with reflecting([listed("5"), bytewise]) as seen:
        await seen.server.done.wait()
        [kept] = seen.reflector.store.values()
        assert kept["metadata"]["annotations"] == {"x": text}
        assert seen.server.asked()[-1] == "watch 7"


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b"<html>\n", id="no-json"),
        pytest.param(b'{"type":"ADDED"}\n', id="no-object"),
        pytest.param(b'{"type":"ADDED","object":{"metadata":{}}}\n', id="no-version"),
    ],
)
async def test_what_is_no_event_is_a_broken_stream(bad: bytes) -> None:
    """The watch goes on from the last event that was one."""
    async with reflecting([listed("5"), Answer((bookmark("6"), bad))]) as seen:
        await seen.server.done.wait()
        assert seen.server.asked() == ["list", "watch 5", "watch 6"]


@pytest.mark.parametrize(
    ("failures", "chance", "seconds"),
    [
        pytest.param(1, 0.0, 0.5, id="first"),
        pytest.param(1, 1.0, 0.25, id="first-with-luck"),
        pytest.param(4, 0.0, 4.0, id="doubles"),
        pytest.param(10, 0.0, 30.0, id="capped"),
        pytest.param(100_000, 0.5, 22.5, id="capped-for-ever"),
    ],
)
def test_the_wait_doubles_up_to_a_cap(failures: int, chance: float, seconds: float) -> None:
    """Half of it is left to chance."""
    assert Pace(chance=lambda: chance).delay(failures) == seconds
