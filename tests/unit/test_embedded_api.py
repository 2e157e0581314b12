"""The embedded Kubernetes API over ASGI: verbs, admission, errors, forms, discovery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from controller.embedded.routes import embedded_api
from controller.embedded.store import Store, open_store
from controller.objects.kind import Column, Denied, JsonObject, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

OPEN: JsonObject = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
TOYS = "/apis/toys.example.com/v1/namespaces/default/toys"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
MERGE = {"content-type": "application/merge-patch+json"}


def with_size(new: JsonObject, _old: JsonObject | None) -> JsonObject:
    new.setdefault("spec", {}).setdefault("size", 1)
    return new


def refuse_thirteen(new: JsonObject, _old: JsonObject | None) -> None:
    if new["spec"].get("size") == 13:
        raise Denied("size must not be 13")


TOY = Kind(
    "toys.example.com",
    "v1",
    "Toy",
    "toys",
    "toy",
    status=True,
    short_names=("ty",),
    categories=("all",),
    schema={
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "color": {"type": "string", "enum": ["red", "blue"], "default": "red"},
                    "size": {"type": "integer"},
                    "parts": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
                },
            },
            "status": OPEN,
        },
    },
    columns=(Column("Size", "integer", ".spec.size"), Column("Mood", json_path=".status.mood")),
    default=with_size,
    validate=refuse_thirteen,
)
NAMESPACE = Kind("", "v1", "Namespace", "namespaces", "namespace", namespaced=False, custom=False, status=True)
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps", "configmap", custom=False)
EVENT = Kind("", "v1", "Event", "events", "event", custom=False)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[Store, None]:
    async with open_store(tmp_path / "api.db") as opened:
        yield opened


@pytest.fixture
async def api(store: Store) -> AsyncGenerator[httpx.AsyncClient, None]:
    app = embedded_api((TOY, NAMESPACE, CONFIG_MAP, EVENT), store)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        yield client


def toy(name: str = "bear", **spec: Any) -> JsonObject:
    return {"apiVersion": "toys.example.com/v1", "kind": "Toy", "metadata": {"name": name}, "spec": spec}


async def made(api: httpx.AsyncClient, value: JsonObject | None = None) -> JsonObject:
    answer = await api.post(TOYS, json=value or toy())
    assert answer.status_code == 201, answer.text
    created: JsonObject = answer.json()
    return created


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    """The code, reason and message of a Status."""
    body = answer.json()
    assert (body["kind"], body["apiVersion"], body["status"], body["code"]) == (
        "Status",
        "v1",
        "Failure",
        answer.status_code,
    )
    return answer.status_code, body.get("reason", ""), body["message"]


async def test_create_stamps_and_defaults(api: httpx.AsyncClient) -> None:
    """A new object has what the server alone decides, its defaults, and no status."""
    sent = toy() | {"status": {"mood": "good"}}
    sent["metadata"] |= {"creationTimestamp": None, "labels": {}, "generation": 7, "uid": "mine"}
    created = await made(api, sent)
    metadata = created["metadata"]
    assert created["spec"] == {"color": "red", "size": 1}
    assert "status" not in created
    assert "labels" not in metadata
    assert (metadata["namespace"], metadata["generation"]) == ("default", 1)
    assert len(metadata["uid"]) == 36
    assert metadata["creationTimestamp"].endswith("Z")
    assert (await api.get(f"{TOYS}/bear")).json() == created


async def test_generate_name(api: httpx.AsyncClient) -> None:
    """A name is made from generateName; without either the object is refused."""
    created = await made(api, {"metadata": {"generateName": "bear-"}})
    assert created["metadata"]["name"].startswith("bear-")
    assert len(created["metadata"]["name"]) == 10
    code, reason, message = refusal(await api.post(TOYS, json={"metadata": {}}))
    assert (code, reason) == (422, "Invalid")
    assert (
        message == 'Toy.toys.example.com "" is invalid: metadata.name: Required value: name or generateName is required'
    )


@pytest.mark.parametrize(
    ("value", "query", "code", "message"),
    [
        pytest.param(
            toy(size="big"),
            "",
            422,
            'Toy.toys.example.com "bear" is invalid: spec.size: Invalid value: "string": spec.size in body must be of '
            'type integer: "string"',
            id="type",
        ),
        pytest.param(
            toy(color="green", size=True),
            "",
            422,
            'Toy.toys.example.com "bear" is invalid: [spec.color: Unsupported value: "green": supported values: "red", '
            '"blue", spec.size: Invalid value: "boolean": spec.size in body must be of type integer: "boolean"]',
            id="two",
        ),
        pytest.param(
            toy(z=1, parts=[{"x": 1}]),
            "?fieldValidation=Strict",
            400,
            'Toy in version "v1" cannot be handled as a Toy: strict decoding error: unknown field "spec.parts[0].x", '
            'unknown field "spec.z"',
            id="unknown",
        ),
        pytest.param(toy(size=13), "", 400, "size must not be 13", id="denied"),
        pytest.param(
            toy() | {"apiVersion": "v2"},
            "",
            400,
            "the API version in the data (v2) does not match the expected API version (toys.example.com/v1)",
            id="api-version",
        ),
        pytest.param(
            {"metadata": {"name": "bear", "namespace": "other"}},
            "",
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
            id="namespace",
        ),
        pytest.param(
            {"metadata": {"name": "bear", "labels": {"a": 1}}},
            "",
            400,
            'Toy in version "v1" cannot be handled as a Toy: metadata.labels.a: Invalid value: "integer": '
            'metadata.labels.a in body must be of type string: "integer"',
            id="metadata-type",
        ),
        pytest.param(
            [], "", 400, 'Toy in version "v1" cannot be handled as a Toy: the body must be a JSON object', id="list"
        ),
        pytest.param(
            toy(),
            "?fieldValidation=Loud",
            422,
            'CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "Loud": supported values: '
            '"Ignore", "Warn", "Strict"',
            id="option",
        ),
    ],
)
async def test_create_is_refused(api: httpx.AsyncClient, value: Any, query: str, code: int, message: str) -> None:
    """The Status says what a real API server says."""
    answer = await api.post(f"{TOYS}{query}", json=value)
    assert refusal(answer)[::2] == (code, message)
    assert (await api.get(TOYS)).json()["items"] == []


@pytest.mark.parametrize("name", ["Bear", "-bear", "bear.", "b" * 254, "a/b"])
async def test_names(api: httpx.AsyncClient, name: str) -> None:
    """A name that is no DNS subdomain is refused with its field."""
    body = (await api.post(TOYS, json=toy(name))).json()
    assert body["details"]["causes"][0]["field"] == "metadata.name"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "must be of type JSON"),
        (b'{"metadata":{"name":"a"},"spec":{"size":NaN}}', "NaN is no JSON number"),
        (b'{"metadata":{"name":"a"},"spec":{"size":1e999}}', "out of range"),
        (b'{"metadata":{"name":"\\ud800"}}', "surrogates"),
        (b"[" * 100_000, "must be of type JSON"),
        (b'{"metadata":{"name":"a"},"a":' + b"[" * 900 + b"]" * 900 + b"}", ""),
    ],
    ids=["cut", "nan", "huge", "surrogate", "deep", "deep-and-whole"],
)
async def test_bodies_that_are_no_json(api: httpx.AsyncClient, body: bytes, message: str) -> None:
    """Damaged bodies are 400, never 500."""
    answer = await api.post(TOYS, content=body)
    if message or answer.status_code != 201:
        assert refusal(answer)[0] == 400
    assert message in answer.text


async def test_unknown_and_duplicate_fields_are_warned_about(api: httpx.AsyncClient) -> None:
    """By default they are dropped with a Warning header each; with Ignore in silence."""
    body = b'{"metadata":{"name":"bear","x":1},"spec":{"size":1,"size":2,"z":{"a":1}}}'
    answer = await api.post(TOYS, content=body)
    assert answer.json()["spec"] == {"size": 2, "color": "red"}
    assert answer.headers.get_list("warning") == [
        '299 - "unknown field \\"metadata.x\\""',
        '299 - "unknown field \\"spec.z\\""',
        '299 - "duplicate field \\"spec.size\\""',
    ]
    quiet = await api.post(f"{TOYS}?fieldValidation=Ignore", content=body.replace(b"bear", b"fox"))
    assert "warning" not in quiet.headers
    strict = await api.post(f"{TOYS}?fieldValidation=Strict", content=body)
    assert 'duplicate field "spec.size"' in strict.json()["message"]


async def test_what_is_not_there(api: httpx.AsyncClient) -> None:
    """404 with the plural in details, for reads and writes; a second create is 409."""
    for answer in (
        await api.get(f"{TOYS}/bear"),
        await api.delete(f"{TOYS}/bear"),
        await api.patch(f"{TOYS}/bear", json={}, headers=MERGE),
        await api.put(f"{TOYS}/bear", json={"metadata": {"name": "bear", "resourceVersion": "1"}}),
    ):
        assert refusal(answer) == (404, "NotFound", 'toys.toys.example.com "bear" not found')
        assert answer.json()["details"] == {"name": "bear", "group": "toys.example.com", "kind": "toys"}
    await made(api)
    exists = refusal(await api.post(TOYS, json=toy()))
    assert exists == (409, "AlreadyExists", 'toys.toys.example.com "bear" already exists')
    elsewhere = await api.post(TOYS.replace("default", "nowhere"), json=toy())
    assert refusal(elsewhere) == (404, "NotFound", 'namespaces "nowhere" not found')


async def test_update(api: httpx.AsyncClient) -> None:
    """PUT replaces the spec and keeps what is the server's; status is left alone."""
    created = await made(api)
    await api.patch(f"{TOYS}/bear/status", json={"status": {"mood": "good"}}, headers=MERGE)
    current = (await api.get(f"{TOYS}/bear")).json()
    current["spec"], current["status"] = {"size": 5}, {"mood": "bad"}
    current["metadata"] |= {"creationTimestamp": "2000-01-01T00:00:00Z", "generation": 9}
    updated = (await api.put(f"{TOYS}/bear", json=current)).json()
    assert updated["spec"] == {"size": 5, "color": "red"}
    assert updated["status"] == {"mood": "good"}
    assert updated["metadata"]["generation"] == 2
    for key in ("uid", "creationTimestamp"):
        assert updated["metadata"][key] == created["metadata"][key]


async def test_conflicts(api: httpx.AsyncClient) -> None:
    """An old resourceVersion is 409 for PUT and PATCH; a custom resource needs one for PUT; another uid is 409."""
    created = await made(api)
    await api.patch(f"{TOYS}/bear", json={"spec": {"size": 2}}, headers=MERGE)
    message = (
        'Operation cannot be fulfilled on toys.toys.example.com "bear": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    assert refusal(await api.put(f"{TOYS}/bear", json=created)) == (409, "Conflict", message)
    stale = {"metadata": {"resourceVersion": created["metadata"]["resourceVersion"]}}
    assert refusal(await api.patch(f"{TOYS}/bear", json=stale, headers=MERGE)) == (409, "Conflict", message)
    del created["metadata"]["resourceVersion"]
    code, _, message = refusal(await api.put(f"{TOYS}/bear", json=created))
    assert (code, message.rpartition(": ")[2]) == (422, "must be specified for an update")
    other = await api.patch(f"{TOYS}/bear", json={"metadata": {"uid": "x"}}, headers=MERGE)
    assert refusal(other)[0] == 409


async def test_a_write_without_a_change_is_no_write(api: httpx.AsyncClient, store: Store) -> None:
    """Neither the resourceVersion nor the generation moves."""
    created = await made(api)
    revision = store.revision
    for answer in (
        await api.put(f"{TOYS}/bear", json=created),
        await api.patch(f"{TOYS}/bear", json={"spec": {"size": 1}}, headers=MERGE),
        await api.patch(f"{TOYS}/bear/status", json={"spec": {"size": 7}}, headers=MERGE),
    ):
        assert answer.json() == created
    assert store.revision == revision


async def test_generation_follows_the_spec_only(api: httpx.AsyncClient) -> None:
    """Labels and status leave it, a change of the spec raises it."""
    await made(api)
    generations = []
    for path, patch in (
        ("", {"metadata": {"labels": {"a": "b"}}}),
        ("/status", {"status": {"mood": "good"}}),
        ("", {"spec": {"size": 2}}),
    ):
        changed = (await api.patch(f"{TOYS}/bear{path}", json=patch, headers=MERGE)).json()
        generations.append(changed["metadata"]["generation"])
    assert generations == [1, 1, 2]
    assert (changed["status"], changed["metadata"]["labels"]) == ({"mood": "good"}, {"a": "b"})


@pytest.mark.parametrize(
    ("media", "path", "code"),
    [
        ("application/strategic-merge-patch+json", f"{TOYS}/bear", 415),
        ("application/json", f"{TOYS}/bear", 415),
        ("application/strategic-merge-patch+json", "/api/v1/namespaces/default", 200),
    ],
)
async def test_patch_types(api: httpx.AsyncClient, media: str, path: str, code: int) -> None:
    """Custom resources have no strategic merge patch."""
    await made(api)
    answer = await api.patch(path, json={"metadata": {"labels": {"a": "b"}}}, headers={"content-type": media})
    assert answer.status_code == code
    if code == 415:
        assert refusal(answer)[1] == "UnsupportedMediaType"


async def test_bodies_of_other_types(api: httpx.AsyncClient) -> None:
    """A body that is neither JSON nor a known protobuf kind is 415, and what accepts only protobuf gets 406."""
    for media in ("text/plain", "application/cbor"):
        answer = await api.post(TOYS, content=b"x", headers={"content-type": media})
        assert refusal(answer)[:2] == (415, "UnsupportedMediaType")
    only = {"accept": "application/vnd.kubernetes.protobuf"}
    assert refusal(await api.get(TOYS, headers=only))[:2] == (406, "NotAcceptable")
    both = {"accept": "application/vnd.kubernetes.protobuf,application/json"}
    assert (await api.get(TOYS, headers=both)).status_code == 200


async def test_dry_run(api: httpx.AsyncClient, store: Store) -> None:
    """Everything but the write: checks, defaults, the answer."""
    await api.get(TOYS)
    before = store.revision
    created = (await api.post(f"{TOYS}?dryRun=All", json=toy())).json()
    assert created["spec"]["size"] == 1
    assert "resourceVersion" not in created["metadata"]
    assert (await api.post(f"{TOYS}?dryRun=All", json=toy(size=13))).status_code == 400
    assert store.revision == before
    await made(api)
    assert (await api.delete(f"{TOYS}/bear?dryRun=All")).status_code == 200
    assert (await api.get(f"{TOYS}/bear")).status_code == 200


async def test_lists(api: httpx.AsyncClient) -> None:
    """Pages, their count and revision; selectors; all namespaces."""
    for name in ("a", "b", "c", "d", "e"):
        await made(api, toy(name) | {"metadata": {"name": name, "labels": {"v": str(name in "ae")}}})
    first = (await api.get(f"{TOYS}?limit=2")).json()
    assert (first["kind"], first["metadata"]["remainingItemCount"]) == ("ToyList", 3)
    await api.delete(f"{TOYS}/b")
    names, token = [item["metadata"]["name"] for item in first["items"]], first["metadata"]["continue"]
    while token:
        page = (await api.get(TOYS, params={"limit": 2, "continue": token})).json()
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue", "")
    assert names == ["a", "b", "c", "d", "e"]
    selected = (await api.get("/apis/toys.example.com/v1/toys?labelSelector=v=True&limit=1")).json()
    assert [item["metadata"]["name"] for item in selected["items"]] == ["a"]
    assert "remainingItemCount" not in selected["metadata"]
    assert (await api.get(f"{TOYS}?continue=x")).status_code == 400
    assert (await api.get(f"{TOYS}?limit=many")).status_code == 400
    assert (await api.get(f"{TOYS}?resourceVersion=999")).status_code == 504
    old = await api.get(f"{TOYS}?resourceVersion=1&resourceVersionMatch=Exact")
    assert refusal(old)[:2] == (410, "Expired")


async def test_tables(api: httpx.AsyncClient) -> None:
    """Name and columns, null for what a custom resource lacks, metadata for kubectl -A."""
    await made(api, toy(size=4))
    table = (await api.get(TOYS, headers={"accept": TABLE})).json()
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Size", "Mood"]
    assert table["rows"][0]["cells"] == ["bear", 4, None]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    whole = (await api.get(f"{TOYS}/bear?includeObject=Object", headers={"accept": TABLE})).json()
    assert whole["rows"][0]["object"]["spec"]["size"] == 4
    missing = await api.get(f"{TOYS}/fox", headers={"accept": TABLE})
    assert refusal(missing)[0] == 404


async def test_events_do_not_pile_up(api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of core Events the latest are kept, in a bounded number."""
    monkeypatch.setattr("controller.embedded.resources.KEEP_EVENTS", 3)
    for name in ("a", "b", "c", "d", "e"):
        await api.post("/api/v1/namespaces/default/events", json={"metadata": {"name": name}})
    items = (await api.get("/api/v1/events")).json()["items"]
    assert [item["metadata"]["name"] for item in items] == ["c", "d", "e"]
