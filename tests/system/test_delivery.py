"""The delivery table and the routing topologies of Knative's conformance tests, on the real process.

Where those say "dropped", Penstock keeps the event in its delivery store; where they have no delivery spec and expect no
retry, the Broker here says `retry: 0`, since Penstock's default is to retry.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.system.support import (
    CHANNELS,
    Failing,
    Penstock,
    Reply,
    Request,
    Sink,
    broker,
    event,
    eventually,
    publishing,
    sink,
    trigger,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

pytestmark = [pytest.mark.system, pytest.mark.parametrize("channel", CHANNELS, indirect=True)]

QUICK = {"backoffPolicy": "linear", "backoffDelay": "PT0.01S"}


def _sink_at(url: str, path: str) -> dict[str, Any]:
    return {"deadLetterSink": {"uri": f"{url}/{path}"}}


@dataclass(frozen=True)
class Case:
    """`broker` and `triggers` are delivery specs; DLS stands for a dead letter sink `/NAME-dls`.

    A Trigger is (delivery spec, how often its subscriber fails, where the event ends: `subscriber`, `broker-dls`,
    `trigger-dls` or `store`).
    """

    broker: Mapping[str, Any]
    triggers: Sequence[tuple[Mapping[str, Any], int, str]]


TABLE = {
    "nothing configured, no retry": Case({"retry": 0}, [({}, 1, "store")]),
    "broker sink, retried and delivered": Case({"retry": 3, "sink": True}, [({}, 3, "subscriber")]),
    "broker sink, exhausted": Case({"retry": 3, "sink": True}, [({}, 4, "broker-dls")]),
    "trigger's own retries": Case(
        {"retry": 0}, [({"retry": 3, "sink": True}, 3, "subscriber"), ({"retry": 1}, 2, "store")]
    ),
    "trigger's own, and the broker's sink": Case(
        {"retry": 1, "sink": True}, [({"retry": 3, "sink": True}, 3, "subscriber"), ({}, 2, "broker-dls")]
    ),
    "both sinks": Case(
        {"retry": 1, "sink": True}, [({"retry": 3, "sink": True}, 4, "trigger-dls"), ({}, 2, "broker-dls")]
    ),
}


def _delivery(spec: Mapping[str, Any], url: str, path: str) -> dict[str, Any]:
    if not spec:
        return {}
    given = {name: value for name, value in spec.items() if name != "sink"}
    return {"delivery": {**QUICK, **given, **(_sink_at(url, path) if spec.get("sink") else {})}}


async def test_delivery_table(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()
    failing = Failing({})
    async with sink(failing) as subscriber, publishing(one.port) as publisher:
        names = []
        for number, case in enumerate(TABLE.values()):
            name = f"case-{number}"
            one.apply(broker(name, **_delivery(case.broker, subscriber.url, f"{name}/broker-dls")))
            for index, (spec, fails, _) in enumerate(case.triggers):
                names.append(f"{name}-{index}")
                uri = f"{subscriber.url}/fail-{fails}/{names[-1]}"
                own = _delivery(spec, subscriber.url, f"{names[-1]}/trigger-dls")
                one.apply(trigger(names[-1], uri, broker=name, **own))
        one.wait_ready(*(f"trigger/{name}" for name in names))
        for number in range(len(TABLE)):
            assert await publisher.post(f"/default/case-{number}", event(f"event-{number}")) == 202
        for number, (title, case) in enumerate(TABLE.items()):
            for index, (_, fails, end) in enumerate(case.triggers):
                name = f"case-{number}-{index}"
                await eventually(
                    lambda name=name, number=number, fails=fails, end=end: (
                        _ended(one, subscriber, name, number, fails) == end
                    ),  # type: ignore[misc] # mypy has no type for a lambda with defaults
                    f"{title}: trigger {index} ends at {end}",
                )


def _ended(one: Penstock, subscriber: Sink, name: str, number: int, fails: int) -> str:
    attempts = subscriber.ids(f"/fail-{fails}/{name}").count(f"event-{number}")
    if attempts > fails:
        return "subscriber"
    if subscriber.ids(f"/{name}/trigger-dls"):
        return "trigger-dls"
    if subscriber.ids(f"/case-{number}/broker-dls"):
        return "broker-dls"
    dead = [letter for letter in one.dead_letters() if letter["spec"]["trigger"] == name]
    return "store" if dead else ""


@dataclass(frozen=True)
class Topology:
    """`triggers` maps a name to its filter (None: no filter); `expected` to the types that it gets for one `test.a`."""

    triggers: Mapping[str, str | None]
    expected: Mapping[str, Sequence[str]]


TOPOLOGIES = {
    "no filter": Topology({"t": None}, {"t": ["test.a"]}),
    "no match": Topology({"t": "test.other"}, {"t": []}),
    "match": Topology({"t": "test.a"}, {"t": ["test.a"]}),
    "two match": Topology({"t": "test.a", "u": "test.a"}, {"t": ["test.a"], "u": ["test.a"]}),
    "one of two": Topology({"t": "test.a", "u": "test.other"}, {"t": ["test.a"], "u": []}),
    "a reply triggers the second": Topology(
        {"replier": "test.a", "u": "test.reply"}, {"replier": ["test.a"], "u": ["test.reply"]}
    ),
    "two without filter": Topology({"t": None, "u": None}, {"t": ["test.a"], "u": ["test.a"]}),
}


def _replying(request: Request) -> Reply:
    if request.path.endswith("/replier") and request.headers["ce-type"] == "test.a":
        return Reply(200, tuple(event(f"reply-{request.id}", "test.reply").items()))
    return Reply()


async def test_routing_topologies(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()
    async with sink(_replying) as subscriber, publishing(one.port) as publisher:
        names = []
        for number, topology in enumerate(TOPOLOGIES.values()):
            one.apply(broker(f"b{number}"))
            for name, wanted in topology.triggers.items():
                names.append(f"b{number}-{name}")
                own: dict[str, Any] = {"filter": {"attributes": {"type": wanted}}} if wanted else {}
                one.apply(trigger(names[-1], f"{subscriber.url}/b{number}/{name}", broker=f"b{number}", **own))
        one.wait_ready(*(f"trigger/{name}" for name in names))
        for number in range(len(TOPOLOGIES)):
            assert await publisher.post(f"/default/b{number}", event(f"event-{number}", "test.a")) == 202
        for number, (title, topology) in enumerate(TOPOLOGIES.items()):
            wanted_types = {f"/b{number}/{name}": list(types) for name, types in topology.expected.items()}
            await eventually(
                lambda wanted_types=wanted_types: all(
                    _types(subscriber, path) == types for path, types in wanted_types.items()
                ),  # type: ignore[misc] # as above
                f"{title}: {wanted_types}",
            )


def _types(subscriber: Sink, path: str) -> list[str]:
    return [request.headers["ce-type"] for request in subscriber.requests if request.path == path]


async def test_what_a_subscriber_and_a_dead_letter_sink_get(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()

    def refuse(request: Request) -> Reply:
        if request.path == "/refusing":
            return Reply(422, (), b'{ "message": "catastrophic failure" }')
        return Reply()

    async with sink(refuse) as subscriber, publishing(one.port) as publisher:
        uri = f"{subscriber.url}/refusing"
        one.apply(broker(), trigger("t", uri, delivery=_sink_at(subscriber.url, "dls")))
        one.wait_ready("trigger/t")
        headers = {**event("e1", subject="sübject"), "x-request-id": "r1", "traceparent": "00-1-2-01", "cookie": "c"}
        headers = {**headers, "ce-subject": "s%C3%BCbject", "content-type": "application/json"}
        assert await publisher.post("/default/default", headers, b'{"n": 1.10}') == 202
        await eventually(lambda: len(subscriber.requests) == 2, "the subscriber and the sink were called once each")
    first, dead = subscriber.requests
    assert first.headers["prefer"] == "reply"
    assert first.headers["kn-namespace"] == dead.headers["kn-namespace"] == "default"
    assert first.headers["x-request-id"] == "r1"
    assert first.headers["traceparent"] == "00-1-2-01"
    assert first.headers["ce-subject"] == "s%C3%BCbject"
    assert "cookie" not in first.headers
    assert "ce-knativebrokerttl" not in first.headers
    assert first.headers["ce-knativearrivaltime"]
    assert dead.body == first.body == b'{"n": 1.10}'
    assert dead.headers["ce-knativeerrordest"] == uri
    assert dead.headers["ce-knativeerrorcode"] == "422"
    assert dead.headers["ce-knativeerrordata"] == "eyAibWVzc2FnZSI6ICJjYXRhc3Ryb3BoaWMgZmFpbHVyZSIgfQ=="


BODIES = {
    "odd numbers": ("application/json", b'{"a": 1.10, "b": 1e400, "c": 12345678901234567890123, "a": 2,\n\t"d": -0.0}'),
    "not JSON": ("application/json", b'{"broken": '),
    "binary": ("application/octet-stream", bytes(range(256)) * 4),
    "empty": ("text/plain", b""),
    "text": ("text/plain; charset=latin-1", "grün".encode("latin-1")),
}


async def test_data_bytes_are_never_changed(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()
    async with sink() as subscriber, publishing(one.port) as publisher:
        one.apply(broker(), trigger("t", subscriber.url))
        one.wait_ready("trigger/t")
        for number, (content_type, body) in enumerate(BODIES.values()):
            headers = {**event(f"binary-{number}"), "content-type": content_type}
            assert await publisher.post("/default/default", headers, body) == 202
        structured = b'{"specversion":"1.0","id":"structured","source":"/s","type":"t","data":{"n":1.10,"big":1e400 }}'
        assert (
            await publisher.post("/default/default", {"content-type": "application/cloudevents+json"}, structured)
            == 202
        )
        await eventually(lambda: len(subscriber.requests) == len(BODIES) + 1, "all are delivered")
    got = {request.id: request for request in subscriber.requests}
    for number, (title, (content_type, body)) in enumerate(BODIES.items()):
        assert got[f"binary-{number}"].body == body, title
        assert got[f"binary-{number}"].headers["content-type"] == content_type, title
    assert got["structured"].body == b'{"n":1.10,"big":1e400 }'


async def test_cursors_and_dead_letters_survive_a_restart(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()

    def answer(request: Request) -> Reply:
        return Reply(400) if request.path == "/refusing" else Reply()

    async with sink(answer) as subscriber, publishing(one.port) as publisher:
        one.apply(broker(), trigger("good", f"{subscriber.url}/good"), trigger("bad", f"{subscriber.url}/refusing"))
        one.wait_ready("trigger/good", "trigger/bad")
        assert await publisher.post("/default/default", event("e1")) == 202
        await eventually(lambda: len(subscriber.requests) == 2, "both were called")
        await eventually(lambda: len(one.dead_letters()) == 1, "the refused delivery is kept")
        assert await one.stop() == 0
        publisher.close()
        await one.start()
        assert len(one.dead_letters()) == 1
        assert await publisher.post("/default/default", event("e2")) == 202
        await eventually(lambda: "e2" in subscriber.ids("/good"), "the second event is delivered")
        assert subscriber.ids("/good") == ["e1", "e2"]


async def test_a_changed_trigger_does_not_drop_what_is_in_flight(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()
    let_go = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        slow = await stack.enter_async_context(_held(let_go))
        fast = await stack.enter_async_context(sink())
        publisher = await stack.enter_async_context(publishing(one.port))
        one.apply(broker(), trigger("t", slow.url))
        one.wait_ready("trigger/t")
        assert await publisher.post("/default/default", event("e1")) == 202
        await eventually(lambda: len(slow.requests) == 1, "the first attempt is under way")
        one.apply(trigger("t", fast.url))
        await eventually(
            lambda: one.kubectl("get", "trigger", "t", "-o", "jsonpath={.status.subscriberUri}").stdout == fast.url,
            "the change is seen",
        )
        assert await publisher.post("/default/default", event("e2")) == 202
        await eventually(lambda: fast.ids() == ["e2"], "new events go to the new subscriber")
        let_go.set()
        assert await one.stop() == 0
        await one.start()
        publisher.close()
        assert await publisher.post("/default/default", event("e3")) == 202
        await eventually(lambda: "e3" in fast.ids(), "the third event is delivered")
        assert slow.ids() == ["e1"]
        assert fast.ids() == ["e2", "e3"]


@contextlib.asynccontextmanager
async def _held(let_go: asyncio.Event) -> Any:
    """A subscriber that answers only when it is let go."""
    seen: list[Request] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in head[1:]}
        seen.append(Request("/", headers, b""))
        await let_go.wait()
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Sink(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen)
