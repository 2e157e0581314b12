"""Single requests: their paths and bodies, paging, and which error each answer becomes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from controller.kube.client import KubeClient
from controller.kube.config import KubeConfig
from controller.kube.errors import (
    AlreadyExists,
    ApiUnavailable,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    KubeconfigError,
    KubeError,
    NotFound,
    Refused,
    Unauthorized,
    error_of,
)
from controller.objects.kind import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

BROKER = Kind("eventing.knative.dev", "v1", "Broker", "brokers", "broker")
SERVICE = Kind("", "v1", "Service", "services", "service", custom=False)
NODE = Kind("", "v1", "Node", "nodes", "node", namespaced=False, custom=False)


def status(code: int, reason: str, message: str = "no", **details: Any) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "code": code,
        "reason": reason,
        "message": message,
        "details": details,
    }


class Server:
    """Answers the requests in order with what it was given, and keeps them."""

    def __init__(self, answers: Iterable[tuple[int, Any]]) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []

    def client(self, config: KubeConfig | None = None) -> KubeClient:
        return KubeClient(config or KubeConfig(server="http://k", namespace="team"), httpx.MockTransport(self._answer))

    def lines(self) -> list[str]:
        return [f"{request.method} {request.url.raw_path.decode()}" for request in self.requests]

    def body(self, index: int) -> Any:
        return json.loads(self.requests[index].content)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        code, body = self._answers.pop(0)
        return httpx.Response(code, content=body if isinstance(body, bytes) else json.dumps(body).encode())


def broker(version: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "b", "namespace": "team", "resourceVersion": version}
    return {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize(
    ("kind", "namespace", "path"),
    [
        pytest.param(BROKER, "a", "/apis/eventing.knative.dev/v1/namespaces/a/brokers/x", id="custom"),
        pytest.param(SERVICE, "a", "/api/v1/namespaces/a/services/x", id="core"),
        pytest.param(NODE, "ignored", "/api/v1/nodes/x", id="cluster-scope"),
    ],
)
async def test_paths_follow_from_the_kind(kind: Kind, namespace: str, path: str) -> None:
    """Group, version, plural and scope make the path; a prefix of the server's address stays before it."""
    server = Server([(200, {"kind": kind.kind})])
    async with server.client(KubeConfig(server="http://k/clusters/c1")) as kube:
        await kube.get(kind, namespace, "x")
    assert server.lines() == [f"GET /clusters/c1{path}"]


async def test_a_list_is_read_page_by_page() -> None:
    """Pages are joined, the version is the first page's, and items of core kinds get the kind that lists leave out."""
    first = {"metadata": {"resourceVersion": "7", "continue": "more"}, "items": [{"metadata": {"name": "a"}}]}
    last = {"metadata": {"resourceVersion": "9"}, "items": [{"metadata": {"name": "b"}}]}
    server = Server([(200, first), (200, last)])
    async with server.client() as kube:
        listed = await kube.list(SERVICE, query={"labelSelector": "x=y"})
    assert listed.resource_version == "7"
    assert [(item["kind"], item["apiVersion"], item["metadata"]["name"]) for item in listed.items] == [
        ("Service", "v1", "a"),
        ("Service", "v1", "b"),
    ]
    assert server.lines() == [
        "GET /api/v1/services?labelSelector=x%3Dy&limit=500",
        "GET /api/v1/services?labelSelector=x%3Dy&limit=500&continue=more",
    ]


async def test_a_list_that_expires_between_pages_is_read_at_once() -> None:
    """An expired `continue` is no error for the caller."""
    first = {"metadata": {"resourceVersion": "7", "continue": "more"}, "items": [{"metadata": {"name": "a"}}]}
    whole = {"metadata": {"resourceVersion": "8"}, "items": [{"metadata": {"name": "b"}}]}
    server = Server([(200, first), (410, status(410, "Expired")), (200, whole)])
    async with server.client() as kube:
        listed = await kube.list(SERVICE)
    assert (listed.resource_version, len(listed.items)) == ("8", 1)
    assert server.lines()[-1] == "GET /api/v1/services"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"hello": "world"}, id="other-json"),
        pytest.param(b"<html>login</html>", id="html"),
        pytest.param({"metadata": {"resourceVersion": "1"}}, id="no-items"),
    ],
)
async def test_what_is_no_list_is_not_an_empty_list(body: Any) -> None:
    """A stray 200 from something between us and the server must not look as if all objects were deleted."""
    async with Server([(200, body)]).client() as kube:
        with pytest.raises(ApiUnavailable):
            await kube.list(BROKER)


async def test_a_status_patch_can_name_the_version() -> None:
    """`patch_status` merges into the status subresource, with the version as its precondition if one is given."""
    server = Server([(200, broker("2")), (200, broker("3"))])
    async with server.client() as kube:
        await kube.patch_status(BROKER, "team", "b", {"status": {"a": 1}})
        await kube.patch_status(BROKER, "team", "b", {"status": {"a": 1}}, resource_version="2")
    assert server.requests[0].url.path == "/apis/eventing.knative.dev/v1/namespaces/team/brokers/b/status"
    assert server.requests[0].headers["Content-Type"] == "application/merge-patch+json"
    assert server.body(0) == {"status": {"a": 1}}
    assert server.body(1) == {"status": {"a": 1}, "metadata": {"resourceVersion": "2"}}


async def test_a_manifest_of_a_new_object_creates_it() -> None:
    """What only the server writes is left out, and a manifest without a namespace goes to the default one."""
    server = Server([(404, status(404, "NotFound")), (201, broker("1"))])
    manifest = {"kind": "Broker", "metadata": {"name": "b", "uid": "u", "resourceVersion": "9"}, "status": {"x": 1}}
    async with server.client() as kube:
        applied = await kube.create_or_patch(BROKER, manifest)
    assert applied == ("created", broker("1"))
    assert server.lines()[1] == (
        "POST /apis/eventing.knative.dev/v1/namespaces/team/brokers?fieldManager=penstock&fieldValidation=Strict"
    )
    assert server.body(1) == {"kind": "Broker", "metadata": {"name": "b"}}


async def test_a_manifest_of_an_old_object_is_merged() -> None:
    """The annotation of kubectl annotation is neither sent nor removed."""
    server = Server([(200, broker("1")), (200, broker("2"))])
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "mine": "1"}
    async with server.client() as kube:
        applied = await kube.create_or_patch(
            BROKER, {"metadata": {"name": "b", "annotations": annotations}, "spec": {}}
        )
    assert applied.action == "configured"
    assert server.requests[1].method == "PATCH"
    assert server.body(1) == {"metadata": {"name": "b", "annotations": {"mine": "1"}}, "spec": {}}


async def test_a_manifest_that_changes_nothing_says_so() -> None:
    """The server keeps the version of an object that a patch leaves as it was."""
    async with Server([(200, broker("1")), (200, broker("1"))]).client() as kube:
        assert (await kube.create_or_patch(BROKER, broker("1"))).action == "unchanged"


async def test_a_manifest_that_someone_else_just_created_is_merged() -> None:
    """Two processes that apply the same folder at once do not fail."""
    server = Server(
        [(404, status(404, "NotFound")), (409, status(409, "AlreadyExists")), (200, broker("1")), (200, broker("2"))]
    )
    async with server.client() as kube:
        assert (await kube.create_or_patch(BROKER, broker("1"))).action == "configured"


async def test_a_manifest_without_a_name_is_refused() -> None:
    """The field is named and nothing is sent."""
    server = Server([])
    async with server.client() as kube:
        with pytest.raises(Invalid, match=r"metadata\.name"):
            await kube.create_or_patch(BROKER, {"kind": "Broker"})
    assert server.requests == []


async def test_delete_can_be_bound_to_one_incarnation() -> None:
    """With a uid the request has it as a precondition."""
    server = Server([(200, status(200, "")), (200, status(200, ""))])
    async with server.client() as kube:
        await kube.delete(BROKER, "team", "b")
        await kube.delete(BROKER, "team", "b", uid="u")
    assert "preconditions" not in server.body(0)
    assert server.body(1)["preconditions"] == {"uid": "u"}


@pytest.mark.parametrize(
    ("code", "body", "expected"),
    [
        pytest.param(400, status(400, "BadRequest"), Invalid, id="400"),
        pytest.param(401, status(401, "Unauthorized"), Unauthorized, id="401"),
        pytest.param(403, status(403, "Forbidden"), Forbidden, id="403"),
        pytest.param(404, status(404, "NotFound"), NotFound, id="404"),
        pytest.param(409, status(409, "Conflict"), Conflict, id="409"),
        pytest.param(409, status(409, "AlreadyExists"), AlreadyExists, id="409-exists"),
        pytest.param(410, status(410, "Expired"), Gone, id="410"),
        pytest.param(422, status(422, "Invalid"), Invalid, id="422"),
        pytest.param(418, None, Refused, id="other-4xx"),
        pytest.param(301, None, Refused, id="redirect"),
        pytest.param(429, status(429, "TooManyRequests"), ApiUnavailable, id="429"),
        pytest.param(500, status(500, "InternalError"), ApiUnavailable, id="500"),
        pytest.param(503, "no healthy upstream", ApiUnavailable, id="proxy"),
        pytest.param(504, status(504, "Timeout", causes=[{"reason": "ResourceVersionTooLarge"}]), Gone, id="future"),
        pytest.param(504, status(504, "Timeout"), ApiUnavailable, id="504"),
    ],
)
def test_answers_become_errors(code: int, body: object, expected: type[KubeError]) -> None:
    """Each status and reason is exactly one of our errors."""
    assert type(error_of(code, body, otherwise="?")) is expected


async def test_an_error_says_what_the_server_said() -> None:
    """The Status's message is the error's text, its details are kept."""
    async with Server([(422, status(422, "Invalid", "spec.x: Required value", kind="Broker"))]).client() as kube:
        with pytest.raises(Invalid, match=r"^spec\.x: Required value$") as caught:
            await kube.create(BROKER, broker("1"))
    assert (caught.value.code, caught.value.reason, caught.value.details["kind"]) == (422, "Invalid", "Broker")


async def test_an_answer_without_a_status_names_the_request() -> None:
    """A server that does not serve the kind answers in plain text."""
    async with Server([(404, b"404 page not found")]).client() as kube:
        with pytest.raises(
            NotFound, match=r"^GET http://k/apis/eventing.knative.dev/v1/brokers was answered with 404$"
        ):
            await kube.list(BROKER)


async def test_no_answer_is_unavailable() -> None:
    """The error of httpx is the cause, the address is in the text."""

    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    async with KubeClient(KubeConfig(server="http://k"), httpx.MockTransport(refuse)) as kube:
        with pytest.raises(ApiUnavailable, match="http://k cannot be reached: connection refused") as caught:
            await kube.get(BROKER, "team", "b")
    assert isinstance(caught.value.__cause__, httpx.ConnectError)


@pytest.mark.parametrize(
    ("server_url", "expected"),
    [pytest.param("https://k", "Bearer new", id="tls"), pytest.param("http://k", None, id="plain-http")],
)
async def test_the_token_file_is_read_for_each_request(tmp_path: Path, server_url: str, expected: str | None) -> None:
    """A renewed token is used at once, and never over plain http."""
    token_file = tmp_path / "token"
    token_file.write_text("old", encoding="ascii")
    server = Server([(200, broker("1")), (200, broker("1"))])
    async with server.client(KubeConfig(server=server_url, token_file=token_file)) as kube:
        await kube.get(BROKER, "team", "b")
        token_file.write_text("new\n", encoding="ascii")
        await kube.get(BROKER, "team", "b")
    assert server.requests[1].headers.get("Authorization") == expected


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(KubeConfig(server="https://k", ca="no PEM"), id="ca"),
        pytest.param(KubeConfig(server="https://k", client_cert="no PEM", client_key="no PEM"), id="client"),
    ],
)
def test_a_broken_certificate_is_named(config: KubeConfig) -> None:
    """What OpenSSL refuses is an error of the configuration, found before the first request."""
    with pytest.raises(KubeconfigError, match="https://k"):
        KubeClient(config)
