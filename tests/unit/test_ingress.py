"""The answers of the ingress, in the order of Knative's table, and what is stored."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import httpx
import pytest

from broker.ingress.app import IngressApp
from broker.ingress.core import Ingress
from channels.channel import REPLY_RESERVE
from channels.errors import AppendAmbiguous, ChannelError, ChannelFull, ChannelUnavailable, EventTooLarge
from channels.records import Appended, LogName
from eventing.routing import BrokerRoute, ObjectName, RoutingTable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from channels.records import Bounds, Change, Claim, LogStats, Page
    from eventing.event import Event

DEFAULT = ObjectName("ns", "default")
EVENT = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
LIMIT = 1000


class MemoryLog:
    """A Log that keeps what was appended, or raises `error`."""

    name = LogName("ns", "default", "uid")
    incarnation = "i"
    partitions = 1
    max_event_bytes = LIMIT + REPLY_RESERVE

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.error: Exception | None = None
        self.appends = 0

    async def append(self, events: Sequence[Event]) -> Sequence[Appended]:
        self.appends += 1
        if self.error:
            raise self.error
        self.events += events
        return [Appended(0, len(self.events))]

    async def append_settling(
        self, events: Sequence[Event], slot: int, claim: Claim, changes: Sequence[Change], causes: Sequence[str] = ()
    ) -> Sequence[Appended]:
        raise NotImplementedError

    async def read(self, partition: int, after: int, limit: int) -> Page:
        raise NotImplementedError

    async def wait(self, partition: int, after: int) -> None:
        raise NotImplementedError

    async def bounds(self, partition: int) -> Bounds:
        raise NotImplementedError

    async def position_at(self, partition: int, time: float) -> int:
        raise NotImplementedError

    async def trim(self, partition: int, below: int) -> int:
        raise NotImplementedError

    async def stats(self) -> LogStats:
        raise NotImplementedError


@pytest.fixture
def channel() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def ingress(channel: MemoryLog) -> Ingress:
    made = Ingress()
    brokers = {
        DEFAULT: BrokerRoute("uid", DEFAULT),
        ObjectName("ns", "odd-broker"): BrokerRoute("uid3", ObjectName("ns", "odd-broker")),
        ObjectName("ns", "sick"): BrokerRoute("uid2", ObjectName("ns", "sick"), ready=False, reason="the disk is full"),
    }
    logs = dict.fromkeys(brokers, channel)
    made.publish(RoutingTable(1, live=True, brokers=MappingProxyType(brokers)), MappingProxyType(logs))
    return made


@pytest.fixture
async def client(ingress: Ingress) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(IngressApp(ingress))
    async with httpx.AsyncClient(transport=transport, base_url="http://penstock") as made:
        yield made


@pytest.mark.parametrize("path", ["/ns/default", "/ns/default/", "/ns/default?x=1"])
async def test_an_event_is_stored_and_answered_with_202(
    client: httpx.AsyncClient, channel: MemoryLog, path: str
) -> None:
    answer = await client.post(path, headers={**EVENT, "x-request-id": "r"}, content=b'{"n": 1.10}')
    assert (answer.status_code, answer.content) == (202, b"")
    assert answer.headers["allow"] == "POST, OPTIONS"
    event = channel.events[0]
    assert (event.id, event.data, event.ttl) == ("1", b'{"n": 1.10}', 255)
    assert event.attributes["knativearrivaltime"].endswith("Z")
    assert b"x-request-id: r\r\n" in event.head


async def test_two_sources_with_one_id_are_two_events(client: httpx.AsyncClient, channel: MemoryLog) -> None:
    for source in ("/a", "/b"):
        assert (await client.post("/ns/default", headers={**EVENT, "ce-source": source})).status_code == 202
    assert [event.source for event in channel.events] == ["/a", "/b"]


BATCH = {"content-type": "application/cloudevents-batch+json; charset=utf-8", "x-request-id": "r"}


async def test_a_batch_is_stored_in_one_append(client: httpx.AsyncClient, channel: MemoryLog) -> None:
    one = b'{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"n" : 1.10}}'
    two = b'{"specversion": "0.3", "id": "2", "source": "/s", "type": "t", "data": "AAH/", "datacontentencoding": "base64"}'
    answer = await client.post("/ns/default", headers=BATCH, content=b"[" + one + b" , " + two + b"]")
    assert (answer.status_code, answer.content) == (202, b"")
    assert [(event.id, event.data) for event in channel.events] == [("1", b'{"n" : 1.10}'), ("2", b"\x00\x01\xff")]
    assert all(b"x-request-id: r\r\n" in event.head for event in channel.events)
    assert channel.appends == 1


async def test_an_empty_batch_is_taken(client: httpx.AsyncClient, channel: MemoryLog) -> None:
    assert (await client.post("/ns/default", headers=BATCH, content=b" [ ] ")).status_code == 202
    assert (await client.post("/ns/none", headers=BATCH, content=b"[]")).status_code == 404
    assert channel.appends == 0


@pytest.mark.parametrize(
    ("bad", "attribute", "words"),
    [
        ('{"specversion": "1.0", "id": "1", "source": "/s"}', "type", "type: is missing"),
        ('{"specversion": "1.0", "id": 1, "source": "/s", "type": "t"}', "id", "put it in quotes"),
        (
            '{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "knativebrokerttl": 1}',
            "knativebrokerttl",
            "run out",
        ),
        ("7", None, "no CloudEvent"),
        ("[]", None, "no CloudEvent"),
    ],
)
async def test_a_batch_is_refused_whole_and_says_which_event(
    client: httpx.AsyncClient, channel: MemoryLog, bad: str, attribute: str | None, words: str
) -> None:
    good = '{"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}'
    answer = await client.post("/ns/default", headers=BATCH, content=f"[{good}, {bad}, {good}]")
    problem = answer.json()
    assert (answer.status_code, problem["index"], problem.get("attribute")) == (400, 1, attribute)
    assert problem["detail"].startswith("event 1 of the batch (the first is 0): ")
    assert words in problem["detail"]
    assert channel.events == []


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b"[{}", b"[{},]", b'["\xff"]', b"[" * 100_000])
async def test_what_is_no_batch_is_refused(client: httpx.AsyncClient, channel: MemoryLog, body: bytes) -> None:
    channel.max_event_bytes = 1 << 20
    answer = await client.post("/ns/default", headers=BATCH, content=body)
    assert answer.status_code == 400
    assert channel.events == []


REFUSALS = {
    "no path": ("/", EVENT, 404, "post to /NAMESPACE/BROKER"),
    "one part": ("/ns", EVENT, 400, "names no Broker"),
    "three parts": ("/ns/default/x", EVENT, 400, "names no Broker"),
    "two slashes": ("/ns/default//", EVENT, 400, "names no Broker"),
    "no event": ("/ns/default", {}, 400, "specversion"),
    "unknown version": ("/ns/default", {**EVENT, "ce-specversion": "19.0"}, 400, "specversion"),
    "no id": ("/ns/default", {name: EVENT[name] for name in EVENT if name != "ce-id"}, 400, "id"),
    "no event and no Broker": ("/ns/none", {}, 400, "specversion"),
    "no Broker": ("/ns/none", EVENT, 404, "there is no Broker 'none' in namespace 'ns'"),
    "the last pass": ("/ns/default", {**EVENT, "ce-knativebrokerttl": "1"}, 400, "knativebrokerttl"),
    "not ready": ("/ns/sick", EVENT, 503, "the disk is full"),
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS.keys())
async def test_refusals_are_problem_documents(
    client: httpx.AsyncClient, channel: MemoryLog, case: tuple[str, dict[str, str], int, str]
) -> None:
    path, headers, status, words = case
    answer = await client.post(path, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["allow"] == "POST, OPTIONS"
    assert words in answer.json()["detail"]
    assert answer.json()["status"] == status
    assert ("retry-after" in answer.headers) == (status == 503)
    assert channel.events == []


async def test_the_attribute_at_fault_is_named(client: httpx.AsyncClient) -> None:
    answer = await client.post("/ns/default", headers={**EVENT, "ce-time": "yesterday"})
    assert answer.json()["attribute"] == "time"


@pytest.mark.parametrize(("size", "status"), [(LIMIT, 202), (LIMIT + 1, 413)])
async def test_the_body_limit(client: httpx.AsyncClient, size: int, status: int) -> None:
    answer = await client.post("/ns/default", headers=EVENT, content=b"x" * size)
    assert answer.status_code == status


async def test_the_body_limit_holds_without_a_content_length(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 500

    answer = await client.post("/ns/default", headers=EVENT, content=chunks())
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ChannelFull("no room"), 503),
        (ChannelUnavailable("away"), 503),
        (AppendAmbiguous("who knows"), 503),
        (EventTooLarge(9, 8), 413),
    ],
)
async def test_a_channel_that_fails(
    client: httpx.AsyncClient, channel: MemoryLog, error: ChannelError, status: int
) -> None:
    channel.error = error
    answer = await client.post("/ns/default", headers=EVENT)
    assert answer.status_code == status
    assert ("retry-after" in answer.headers) == (status == 503)
    assert str(error) in answer.json()["detail"]


async def test_a_fault_of_our_own_is_answered_too(client: httpx.AsyncClient, channel: MemoryLog) -> None:
    channel.error = KeyError("a fault")
    answer = await client.post("/ns/default", headers=EVENT)
    assert answer.status_code == 500
    assert "see its log" in answer.json()["detail"]


async def test_before_the_routes_are_loaded_it_is_503_and_never_404() -> None:
    transport = httpx.ASGITransport(IngressApp(Ingress()))
    async with httpx.AsyncClient(transport=transport, base_url="http://penstock") as client:
        answer = await client.post("/ns/none", headers=EVENT)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("default-broker.ns.svc.cluster.local", 202),
        ("default-broker.ns:8080", 202),
        ("default.ns", 202),
        ("odd-broker.ns", 202),
        ("none-broker.ns", 404),
        ("localhost:8080", 404),
    ],
)
async def test_a_broker_by_its_host_name(client: httpx.AsyncClient, host: str, status: int) -> None:
    answer = await client.post("/", headers={**EVENT, "host": host})
    assert answer.status_code == status


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
async def test_other_methods_are_405(client: httpx.AsyncClient, method: str) -> None:
    answer = await client.request(method, "/ns/default", headers=EVENT)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST, OPTIONS"


async def test_options_on_any_path(client: httpx.AsyncClient) -> None:
    answer = await client.options("/any/thing/at/all")
    assert answer.status_code == 200
    assert answer.headers["webhook-allowed-origin"] == "*"
    assert answer.headers["webhook-allowed-rate"] == "*"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_network_probe_gets_its_hash_back(client: httpx.AsyncClient, method: str) -> None:
    answer = await client.request(method, "/ns/default", headers={"K-Network-Probe": "probe", "K-Network-Hash": "h"})
    assert (answer.status_code, answer.headers["k-network-hash"]) == (200, "h")


async def test_readiness_ends_when_penstock_drains(client: httpx.AsyncClient, ingress: Ingress) -> None:
    assert (await client.get("/readyz")).status_code == 200
    ingress.drain()
    assert (await client.get("/readyz")).status_code == 503
    assert (await client.get("/any", headers={"user-agent": "kube-probe/1.32"})).status_code == 503
    assert (await client.post("/ns/default", headers=EVENT)).status_code == 202
