"""Server-side apply over the embedded API: owners, conflicts, giving up, migration from kubectl's client-side apply."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from controller.embedded.routes import embedded_api
from controller.embedded.store import open_store
from controller.objects.kind import JsonObject, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

TOYS = "/apis/toys.example.com/v1/namespaces/default/toys"
BEAR = f"{TOYS}/bear"
APPLY = {"content-type": "application/apply-patch+yaml"}
MERGE = {"content-type": "application/merge-patch+json"}
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
TEXT = {"type": "string"}


def with_shelf(new: JsonObject, _old: JsonObject | None) -> JsonObject:
    new.setdefault("spec", {}).setdefault("shelf", "top")
    return new


TOY = Kind(
    "toys.example.com",
    "v1",
    "Toy",
    "toys",
    "toy",
    status=True,
    schema={
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "color": TEXT,
                    "shelf": TEXT,
                    "size": {"type": "integer", "default": 1},
                    "parts": {
                        "type": "array",
                        "items": {"type": "object", "properties": {"name": TEXT, "of": TEXT}},
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["name"],
                    },
                    "tags": {"type": "array", "items": TEXT, "x-kubernetes-list-type": "set"},
                },
            },
            "status": {"type": "object", "properties": {"mood": TEXT}},
        },
    },
    default=with_shelf,
)
NAMESPACE = Kind("", "v1", "Namespace", "namespaces", "namespace", namespaced=False, custom=False, status=True)


class Clock:
    """A clock that tests set forward."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Client:
    """Writes toys as managers do, and shows who owns what."""

    def __init__(self, http: httpx.AsyncClient, clock: Clock) -> None:
        self.http = http
        self.clock = clock

    async def apply(
        self, manager: str, spec: Any = None, *, code: int = 200, path: str = BEAR, more: Any = None, **query: str
    ) -> JsonObject:
        body = {"apiVersion": "toys.example.com/v1", "kind": "Toy", "metadata": {"name": "bear"}, "spec": spec or {}}
        content = json.dumps(body | (more or {}))
        answer = await self.http.patch(path, params={"fieldManager": manager, **query}, content=content, headers=APPLY)
        assert answer.status_code == code, answer.text
        found: JsonObject = answer.json()
        return found

    async def merge(self, manager: str, patch: Any, path: str = BEAR) -> JsonObject:
        answer = await self.http.patch(path, params={"fieldManager": manager}, json=patch, headers=MERGE)
        assert answer.status_code == 200, answer.text
        found: JsonObject = answer.json()
        return found


@pytest.fixture
async def client(tmp_path: Path) -> AsyncGenerator[Client, None]:
    clock = Clock()
    async with open_store(tmp_path / "api.db") as store:
        app = embedded_api((TOY, NAMESPACE), store, clock=clock)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            yield Client(http, clock)


def owners(value: JsonObject) -> dict[str, Any]:
    """The fields of the spec by manager: `name/operation` or `name/operation/subresource`."""
    found = {}
    for entry in value["metadata"].get("managedFields", ()):
        parts = (entry["manager"], entry["operation"], entry.get("subresource"))
        found["/".join(filter(None, parts))] = entry["fieldsV1"]
    return found


def times(value: JsonObject) -> dict[str, str]:
    return {entry["manager"]: entry.get("time", "") for entry in value["metadata"]["managedFields"]}


async def test_apply_creates(client: Client) -> None:
    """An apply makes what is not there, with 201; defaults belong to nobody."""
    created = await client.apply("one", {"color": "red"}, code=201)
    assert created["spec"] == {"color": "red", "size": 1, "shelf": "top"}
    assert created["metadata"]["managedFields"] == [
        {
            "manager": "one",
            "operation": "Apply",
            "apiVersion": "toys.example.com/v1",
            "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:color": {}}},
        }
    ]
    assert (await client.http.get(BEAR)).json() == created


async def test_dry_run_writes_nothing(client: Client) -> None:
    """A dry run answers as the apply would, without a resourceVersion for what it would create."""
    preview = await client.apply("one", {"color": "red"}, code=201, dryRun="All")
    assert "resourceVersion" not in preview["metadata"]
    assert (await client.http.get(BEAR)).status_code == 404


async def test_create_tracks_all_but_the_hook(client: Client) -> None:
    """A create owns its fields and the schema's defaults, not what the admission hook puts in; the program is the manager."""
    body = {"metadata": {"name": "bear", "labels": {"a": "1"}}, "spec": {"color": "red"}, "status": {"mood": "good"}}
    created = (await client.http.post(TOYS, json=body, headers={"user-agent": "kn/1.2 (linux)"})).json()
    assert owners(created) == {
        "kn/Update": {
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:spec": {".": {}, "f:color": {}, "f:size": {}},
        }
    }


async def test_conflict_names_fields_and_owners(client: Client) -> None:
    """A field that another manager applied with another value is a conflict, and nothing is written."""
    before = await client.apply("one", {"color": "red"}, code=201)
    refused = await client.apply("two", {"color": "blue"}, code=409)
    assert refused["reason"] == "Conflict"
    assert refused["message"] == 'Apply failed with 1 conflict: conflict with "one": .spec.color'
    assert refused["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".spec.color"}
    ]
    assert (await client.http.get(BEAR)).json() == before


async def test_several_conflicts(client: Client) -> None:
    """Conflicts are listed by manager; an updater is named with its version and subresource."""
    await client.apply("one", {"color": "red", "shelf": "low"}, code=201)
    await client.merge("edit", {"spec": {"size": 4}})
    refused = await client.apply("two", {"color": "blue", "size": 5, "shelf": "top"}, code=409)
    assert refused["message"] == (
        "Apply failed with 3 conflicts: "
        'conflicts with "edit" using toys.example.com/v1:\n- .spec.size\n'
        'conflicts with "one":\n- .spec.color\n- .spec.shelf'
    )


async def test_force_takes_over(client: Client) -> None:
    """With force the field changes and its former owner has it no more."""
    await client.apply("one", {"color": "red", "size": 2}, code=201)
    taken = await client.apply("two", {"color": "blue"}, force="true")
    assert taken["spec"]["color"] == "blue"
    assert owners(taken) == {"one/Apply": {"f:spec": {"f:size": {}}}, "two/Apply": {"f:spec": {"f:color": {}}}}


async def test_shared_fields(client: Client) -> None:
    """Two managers that apply the same value share the field; it stays until both give it up."""
    await client.apply("one", {"color": "red", "size": 2}, code=201)
    await client.apply("two", {"color": "red"})
    kept = await client.apply("one", {"size": 2})
    assert kept["spec"]["color"] == "red"
    gone = await client.apply("two", {"tags": ["a"]})
    assert "color" not in gone["spec"]


async def test_giving_up_leaves_what_updates_wrote(client: Client) -> None:
    """What an applier leaves out goes, but not what others wrote below it."""
    await client.apply("one", {"parts": [{"name": "arm"}, {"name": "leg"}], "tags": ["a", "b"]}, code=201)
    await client.apply("two", {"parts": [{"name": "leg", "of": "wood"}], "tags": ["b", "c"]})
    left = await client.apply("one", {"color": "red"})
    assert left["spec"]["parts"] == [{"name": "leg", "of": "wood"}]
    assert left["spec"]["tags"] == ["b", "c"]


async def test_update_takes_only_what_it_changes(client: Client) -> None:
    """A patch owns what it changed; what it sent unchanged stays with its owner; what it removed is nobody's."""
    await client.apply("one", {"color": "red", "size": 2}, code=201)
    changed = await client.merge("edit", {"spec": {"color": "red", "size": 3}})
    assert owners(changed) == {"one/Apply": {"f:spec": {"f:color": {}}}, "edit/Update": {"f:spec": {"f:size": {}}}}
    removed = await client.merge("edit", {"spec": {"color": None}})
    assert owners(removed) == {"edit/Update": {"f:spec": {"f:size": {}}}}


async def test_time_changes_with_the_object_only(client: Client) -> None:
    """An apply or update that changes nothing keeps time and resourceVersion; one that does moves its own time."""
    first = await client.apply("one", {"color": "red"}, code=201)
    client.clock.now += timedelta(minutes=1)
    assert await client.apply("one", {"color": "red"}) == first
    assert await client.merge("edit", {"spec": {"color": "red"}}) == first
    second = await client.apply("one", {"color": "blue"})
    assert times(second) == {"one": "2026-01-01T00:01:00Z"}
    third = await client.merge("edit", {"spec": {"size": 9}})
    assert times(third) == {"one": "2026-01-01T00:01:00Z", "edit": "2026-01-01T00:01:00Z"}


async def test_status_is_tracked_apart(client: Client) -> None:
    """The status subresource has its own entries; each resource ignores the other's part."""
    await client.apply("one", {"color": "red"}, code=201, more={"status": {"mood": "ignored"}})
    applied = await client.apply("loop", {"color": "ignored"}, path=f"{BEAR}/status", more={"status": {"mood": "good"}})
    assert (applied["spec"]["color"], applied["status"]) == ("red", {"mood": "good"})
    assert owners(applied) == {
        "one/Apply": {"f:spec": {"f:color": {}}},
        "loop/Apply/status": {"f:status": {"f:mood": {}}},
    }
    refused = await client.apply("x", path=f"{BEAR}/status", more={"status": {"mood": "bad"}}, code=409)
    assert 'conflict with "loop" with subresource "status": .status.mood' in refused["message"]
    assert (
        await client.http.patch(f"{TOYS}/none/status?fieldManager=x", content="{}", headers=APPLY)
    ).status_code == 404


async def test_managed_fields_can_be_reset_and_begin_again(client: Client) -> None:
    """One empty entry forgets all owners; the next apply finds them under before-first-apply."""
    await client.apply("one", {"color": "red"}, code=201)
    assert owners(await client.merge("x", {"metadata": {"managedFields": []}})) == {
        "one/Apply": {"f:spec": {"f:color": {}}}
    }
    assert owners(await client.merge("x", {"metadata": {"managedFields": [{}]}})) == {}
    assert owners(await client.merge("x", {"spec": {"size": 4}})) == {}
    found = owners(await client.apply("one", {"color": "red"}))
    assert set(found) == {"one/Apply", "before-first-apply/Update"}
    assert found["before-first-apply/Update"]["f:spec"] == {".": {}, "f:color": {}, "f:shelf": {}, "f:size": {}}


async def test_managed_fields_that_cannot_be_read_are_ignored(client: Client) -> None:
    """An update with broken managedFields leaves those of the object."""
    await client.apply("one", {"color": "red"}, code=201)
    kept = await client.merge("x", {"metadata": {"managedFields": [{"manager": "y"}]}})
    assert set(owners(kept)) == {"one/Apply"}


async def test_many_updaters_become_one(client: Client) -> None:
    """More than ten managers of updates: the oldest are united."""
    await client.apply("one", {"tags": ["0"]}, code=201)
    for number in range(12):
        client.clock.now += timedelta(seconds=1)
        value = await client.merge(f"m{number}", {"metadata": {"labels": {f"l{number}": "x"}}})
    found = owners(value)
    assert len(found) == 11
    labels = found["ancient-changes/Update"]["f:metadata"]["f:labels"]
    assert set(labels) == {".", "f:l0", "f:l1", "f:l2"}


async def client_side(client: Client, spec: JsonObject) -> None:
    """What kubectl apply writes: the object with the annotation about itself."""
    value: JsonObject = {"apiVersion": "toys.example.com/v1", "kind": "Toy", "metadata": {"name": "bear"}, "spec": spec}
    noted = value | {"metadata": {"name": "bear", "annotations": {LAST_APPLIED: json.dumps(value)}}}
    query = {"fieldManager": "kubectl-client-side-apply"}
    assert (await client.http.post(TOYS, params=query, json=noted)).status_code == 201


async def test_kubectl_takes_over_its_own(client: Client) -> None:
    """Kubectl may change what it applied on the client's side without a conflict; others may not. The annotation follows."""
    await client_side(client, {"color": "red", "size": 3})
    assert (await client.apply("other", {"color": "blue"}, code=409))["details"]["causes"][0]["field"] == ".spec.color"
    taken = await client.apply("kubectl", {"color": "blue", "size": 3})
    assert taken["spec"] == {"color": "blue", "size": 3, "shelf": "top"}
    assert owners(taken)["kubectl/Apply"] == {"f:spec": {"f:color": {}, "f:size": {}}}
    assert json.loads(taken["metadata"]["annotations"][LAST_APPLIED])["spec"] == {"color": "blue", "size": 3}


async def test_kubectl_does_not_take_what_was_changed_since(client: Client) -> None:
    """A field that is no longer as the annotation says is somebody else's."""
    await client_side(client, {"color": "red", "size": 3})
    await client.merge("other", {"spec": {"size": 4}})
    refused = await client.apply("kubectl", {"color": "blue", "size": 5}, code=409)
    assert refused["message"] == (
        'Apply failed with 1 conflict: conflict with "other" using toys.example.com/v1: .spec.size'
    )


@pytest.mark.parametrize(
    ("body", "query", "code", "message"),
    [
        pytest.param("{}", "", 422, "fieldManager: Required value: is required for apply patch", id="manager"),
        pytest.param("{}", "?fieldManager=m", 400, "invalid object type: /, Kind=", id="no type"),
        pytest.param("{kind: Doll}", "?fieldManager=m", 400, "invalid object type: /, Kind=Doll", id="kind"),
        pytest.param("[1]", "?fieldManager=m", 400, "cannot unmarshal array into Go value", id="list"),
        pytest.param("{a: ", "?fieldManager=m", 400, "error decoding YAML", id="no YAML"),
        pytest.param(
            "TYPE\nspec: {sise: 1}", "?fieldManager=m", 500, ".spec.sise: field not declared in schema", id="field"
        ),
        pytest.param("TYPE\nspec: {size: x}", "?fieldManager=m", 500, ".spec.size: expected numeric", id="type"),
        pytest.param(
            "TYPE\nspec: {parts: [{of: x}]}", "?fieldManager=m", 500, "omits all key fields", id="item without key"
        ),
        pytest.param(
            "TYPE\nmetadata: {managedFields: []}",
            "?fieldManager=m",
            400,
            "metadata.managedFields must be nil",
            id="managed",
        ),
        pytest.param("TYPE", "?fieldManager=m", 400, "name must be provided", id="no name"),
        pytest.param(
            "TYPE\nmetadata: {name: fox}", "?fieldManager=m", 400, "does not match the name on the URL", id="name"
        ),
        pytest.param("TYPE\nmetadata: {name: bear, uid: x}", "?fieldManager=m", 409, "uid mismatch", id="uid"),
        pytest.param(
            "TYPE\nmetadata:\n  name: bear\n  name: bear",
            "?fieldManager=m&fieldValidation=Strict",
            400,
            'line 5: key "name" already set in map',
            id="twice",
        ),
    ],
)
async def test_refused(client: Client, body: str, query: str, code: int, message: str) -> None:
    """What is wrong with an apply is said as a real API server says it."""
    text = body.replace("TYPE", "apiVersion: toys.example.com/v1\nkind: Toy")
    answer = await client.http.patch(f"{BEAR}{query}", content=text, headers=APPLY)
    assert answer.status_code == code, answer.text
    assert message in answer.json()["message"]


async def test_yaml(client: Client) -> None:
    """The body may be YAML; what JSON does not have becomes text, and a key that stands twice is warned about."""
    text = """
apiVersion: toys.example.com/v1
kind: Toy
metadata:
  name: bear
  annotations: {example.com/since: 2026-01-01}
spec:
  color: red
  color: blue
"""
    answer = await client.http.patch(f"{BEAR}?fieldManager=m", content=text, headers=APPLY)
    assert answer.status_code == 201, answer.text
    assert answer.headers["warning"] == '299 - "line 9: key \\"color\\" already set in map"'
    assert answer.json()["metadata"]["annotations"] == {"example.com/since": "2026-01-01"}


async def test_force_is_for_apply(client: Client) -> None:
    """Other patches cannot be forced, and a manager's name has its limits."""
    answer = await client.http.patch(f"{BEAR}?force=true&fieldManager={'x' * 129}%0A", json={}, headers=MERGE)
    message = answer.json()["message"]
    assert answer.status_code == 422
    assert "force: Forbidden: may not be specified for non-apply patch" in message
    assert "fieldManager: Too long: may not be more than 128 bytes" in message
    assert "invalid character U+000A (at position 129)" in message
