"""Discovery, OpenAPI, reviews, protobuf bodies, access, and the kubeconfig of the embedded Kubernetes API."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.embedded.kubeconfig import kubeconfig_text, needs_token
from controller.embedded.protobuf import read_protobuf
from controller.embedded.routes import embedded_api
from controller.embedded.status import ApiError
from controller.embedded.store import Store, open_store
from controller.objects.kind import Kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

TOY = Kind(
    "toys.example.com",
    "v1",
    "Toy",
    "toys",
    "toy",
    status=True,
    short_names=("ty",),
    categories=("all",),
    schema={"type": "object", "properties": {"spec": {"type": "object", "description": "What it is."}}},
)
OLD_TOY = Kind("toys.example.com", "v1beta1", "Toy", "toys", "toy")
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps", "configmap", custom=False)
NAMESPACE = Kind("", "v1", "Namespace", "namespaces", "namespace", namespaced=False, custom=False, status=True)
KINDS = (TOY, OLD_TOY, CONFIG_MAP, NAMESPACE)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[Store, None]:
    async with open_store(tmp_path / "api.db") as opened:
        yield opened


def client_of(store: Store, token: str = "") -> httpx.AsyncClient:
    app = embedded_api(KINDS, store, token=token, hosts=("toys.local",))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8001")


@pytest.fixture
async def api(store: Store) -> AsyncGenerator[httpx.AsyncClient, None]:
    async with client_of(store) as client:
        yield client


@pytest.mark.parametrize("version", ["v2", "v2beta1"])
async def test_aggregated_discovery(api: httpx.AsyncClient, version: str) -> None:
    """One document for the core group and one for all others, in the version that was asked for."""
    media = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
    answer = await api.get("/apis", headers={"accept": f"{media},application/json"})
    assert answer.headers["content-type"] == media
    body = answer.json()
    assert body["apiVersion"] == f"apidiscovery.k8s.io/{version}"
    (group,) = body["items"]
    assert (group["metadata"]["name"], [each["version"] for each in group["versions"]]) == (
        "toys.example.com",
        ["v1", "v1beta1"],
    )
    resource = group["versions"][0]["resources"][0]
    assert (resource["resource"], resource["scope"], resource["shortNames"]) == ("toys", "Namespaced", ["ty"])
    assert resource["subresources"][0]["subresource"] == "status"
    core = (await api.get("/api", headers={"accept": media})).json()["items"]
    assert [each["resource"] for each in core[0]["versions"][0]["resources"]] == ["configmaps", "namespaces"]


async def test_plain_discovery(api: httpx.AsyncClient) -> None:
    """The older form, level by level, with and without a slash at the end."""
    assert (await api.get("/api/")).json()["versions"] == ["v1"]
    groups = (await api.get("/apis")).json()["groups"]
    assert groups[0]["preferredVersion"] == {"groupVersion": "toys.example.com/v1", "version": "v1"}
    assert (await api.get("/apis/toys.example.com")).json()["kind"] == "APIGroup"
    rows = (await api.get("/apis/toys.example.com/v1/")).json()["resources"]
    assert [row["name"] for row in rows] == ["toys", "toys/status"]
    assert (await api.get("/api/v1")).json()["groupVersion"] == "v1"
    assert (await api.get("/version/")).json()["gitVersion"] == "v1.32.3+penstock"
    for path in ("/healthz", "/livez", "/readyz"):
        assert (await api.get(path)).text == "ok"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/foo",
        "/apis/other.example.com",
        "/apis/other.example.com/v1",
        "/api/v2",
        "/api/v1/pods",
        "/apis/toys.example.com/v1/toys/bear",
        "/apis/toys.example.com/v1/namespaces/default/toys/bear/scale",
        "/openapi/v1",
        "/openapi/v3/apis/other/v1",
    ],
)
async def test_unknown_paths(api: httpx.AsyncClient, path: str) -> None:
    """Plain text, as clients of Kubernetes expect it."""
    answer = await api.get(path)
    assert (answer.status_code, answer.text) == (404, "404 page not found\n")
    assert answer.headers["cache-control"] == "no-cache, private"


async def test_openapi(api: httpx.AsyncClient) -> None:
    """An index of group versions; in each the schemas, and for each verb what kubectl looks for."""
    paths = (await api.get("/openapi/v3")).json()["paths"]
    assert sorted(paths) == ["api/v1", "apis/toys.example.com/v1", "apis/toys.example.com/v1beta1"]
    document = (await api.get(paths["apis/toys.example.com/v1"]["serverRelativeURL"])).json()
    schema = document["components"]["schemas"]["com.example.toys.v1.Toy"]
    gvk = {"group": "toys.example.com", "version": "v1", "kind": "Toy"}
    assert schema["x-kubernetes-group-version-kind"] == [gvk]
    assert schema["properties"]["spec"]["description"] == "What it is."
    patch = document["paths"]["/apis/toys.example.com/v1/namespaces/{namespace}/toys/{name}"]["patch"]
    assert (patch["x-kubernetes-action"], patch["x-kubernetes-group-version-kind"]) == ("patch", gvk)
    assert "fieldValidation" in [parameter["name"] for parameter in patch["parameters"]]
    strategic = "application/strategic-merge-patch+json"
    assert strategic not in patch["requestBody"]["content"]
    core = (await api.get("/openapi/v3/api/v1")).json()
    assert strategic in core["paths"]["/api/v1/namespaces/{name}"]["patch"]["requestBody"]["content"]


async def test_openapi_v2_is_protobuf(api: httpx.AsyncClient) -> None:
    """Clients read no other form: version, title, and that there are no schemas."""
    answer = await api.get("/openapi/v2")
    assert answer.headers["content-type"] == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    assert answer.content == b"\x0a\x032.0\x12\x15\x0a\x0aKubernetes\x12\x07v1.32.3\x42\x00\x4a\x00"


async def test_versions_share_their_objects(api: httpx.AsyncClient) -> None:
    """What was made in one version is read in the other, under its name."""
    await api.post("/apis/toys.example.com/v1/namespaces/default/toys", json={"metadata": {"name": "bear"}})
    listed = (await api.get("/apis/toys.example.com/v1beta1/toys")).json()
    assert [item["apiVersion"] for item in listed["items"]] == ["toys.example.com/v1beta1"]
    path = "/apis/toys.example.com/v1beta1/namespaces/default/toys/bear"
    patched = await api.patch(
        path, json={"metadata": {"labels": {"a": "b"}}}, headers={"content-type": "application/merge-patch+json"}
    )
    assert patched.json()["apiVersion"] == "toys.example.com/v1beta1"


async def test_reviews(api: httpx.AsyncClient) -> None:
    """Whoever reaches the API may do everything, and is told so."""
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert (await api.post(path, json=review)).json()["status"]["allowed"] is True
    assert (await api.get(path)).status_code == 405
    who = await api.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", json={})
    assert who.json()["status"]["userInfo"]["username"] == "penstock"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 200),
        ({"host": "localhost:8001"}, 200),
        ({"host": "[::1]:8001"}, 200),
        ({"host": "toys.local"}, 200),
        ({"host": "evil.example.com"}, 403),
        ({"origin": "http://evil.example.com"}, 403),
    ],
)
async def test_web_pages_are_kept_out(api: httpx.AsyncClient, headers: dict[str, str], code: int) -> None:
    """A page in the browser reaches loopback too: by a name that resolves to it, or across origins."""
    assert (await api.get("/api", headers=headers)).status_code == code


async def test_a_token(store: Store) -> None:
    """Without it 401; health needs none."""
    async with client_of(store, token="secret") as api:
        answer = await api.get("/api")
        assert (answer.status_code, answer.json()["reason"]) == (401, "Unauthorized")
        assert (await api.get("/api", headers={"authorization": "Bearer wrong"})).status_code == 401
        assert (await api.get("/api", headers={"authorization": "Bearer secret"})).status_code == 200
        assert (await api.get("/livez")).status_code == 200


def field(number: int, value: bytes | int) -> bytes:
    """A protobuf field below 128 bytes."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value


def unknown(api_version: str, kind: str, raw: bytes) -> bytes:
    """The envelope of Kubernetes around a protobuf message."""
    return b"k8s\x00" + field(1, field(1, api_version.encode()) + field(2, kind.encode())) + field(2, raw)


META = field(1, b"web") + field(2, b"") + field(11, field(1, b"a") + field(2, b"b")) + field(8, b"")


@pytest.mark.parametrize(
    ("kind", "raw", "rest"),
    [
        ("Namespace", field(2, b""), {}),
        ("ConfigMap", field(2, field(1, b"k") + field(2, b"v")) + field(4, 1), {"data": {"k": "v"}, "immutable": True}),
        ("Secret", field(2, field(1, b"k") + field(2, b"\x00\xff")) + field(3, b"Opaque"),
         {"data": {"k": "AP8="}, "type": "Opaque"}),
        ("Service", field(2, field(1, field(3, 80) + field(4, field(2, 8)) + field(2, b"TCP"))),
         {"spec": {"ports": [{"port": 80, "targetPort": 8, "protocol": "TCP"}]}}),
        ("Service", field(2, field(1, field(4, field(1, 1) + field(3, b"http")))),
         {"spec": {"ports": [{"targetPort": "http"}]}}),
    ],
)  # fmt: skip
def test_protobuf_bodies(kind: str, raw: bytes, rest: dict[str, object]) -> None:
    """The typed creates of kubectl become the JSON that it would have sent."""
    value = read_protobuf(unknown("v1", kind, field(1, META) + raw))
    assert value == {"apiVersion": "v1", "kind": kind, "metadata": {"name": "web", "labels": {"a": "b"}}} | rest


def test_other_protobuf_kinds_are_not_read() -> None:
    """The caller answers 415."""
    assert read_protobuf(unknown("v1", "Pod", b"")) is None


@given(st.binary(max_size=60))
def test_damaged_protobuf_is_a_bad_request(data: bytes) -> None:
    """Never another exception."""
    for body in (data, b"k8s\x00" + data, unknown("v1", "Service", data)):
        try:
            read_protobuf(body)
        except ApiError as error:
            assert error.code == 400  # noqa: PT017 - most bodies are refused, a few are read


def test_kubeconfig() -> None:
    """It names the server and, over https, the token and the authority."""
    plain = json.loads(kubeconfig_text("http://127.0.0.1:8001"))
    assert plain["clusters"][0]["cluster"] == {"server": "http://127.0.0.1:8001"}
    assert plain["users"][0]["user"] == {}
    full = json.loads(kubeconfig_text("https://penstock:8001", "secret", "PEM"))
    assert base64.b64decode(full["clusters"][0]["cluster"]["certificate-authority-data"]) == b"PEM"
    assert full["users"][0]["user"] == {"token": "secret"}
    with pytest.raises(ValueError, match="never sends a token over plain http"):
        kubeconfig_text("http://127.0.0.1:8001", "secret")


@pytest.mark.parametrize(
    ("host", "needed"),
    [("127.0.0.1", False), ("127.9.9.9", False), ("::1", False), ("[::1]", False), ("localhost", False),
     ("0.0.0.0", True), ("::", True), ("192.168.1.5", True), ("penstock", True)],
)  # fmt: skip
def test_only_loopback_goes_without_a_token(host: str, needed: bool) -> None:
    """Any other address can be reached by others."""
    assert needs_token(host) is needed
