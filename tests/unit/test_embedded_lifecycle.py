"""Deletion in the embedded Kubernetes API: finalizers, owners, namespaces, collections, preconditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from controller.embedded.routes import embedded_api
from controller.embedded.store import Store, open_store
from controller.objects.kind import JsonObject, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

TOYS = "/apis/toys.example.com/v1/namespaces/default/toys"
MERGE = {"content-type": "application/merge-patch+json"}
TOY = Kind("toys.example.com", "v1", "Toy", "toys", "toy", status=True)
NAMESPACE = Kind("", "v1", "Namespace", "namespaces", "namespace", namespaced=False, custom=False, status=True)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[Store, None]:
    async with open_store(tmp_path / "api.db") as opened:
        yield opened


@pytest.fixture
async def api(store: Store) -> AsyncGenerator[httpx.AsyncClient, None]:
    app = embedded_api((TOY, NAMESPACE), store)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        yield client


async def made(api: httpx.AsyncClient, name: str, path: str = TOYS, **metadata: Any) -> JsonObject:
    answer = await api.post(path, json={"metadata": {"name": name} | metadata})
    assert answer.status_code == 201, answer.text
    created: JsonObject = answer.json()
    return created


async def names(api: httpx.AsyncClient, path: str = TOYS) -> list[str]:
    return [item["metadata"]["name"] for item in (await api.get(path)).json()["items"]]


async def log_of(store: Store, after: int) -> list[tuple[str, str]]:
    """Type and name of each record of the toys after a revision."""
    records, _ = await store.read("toys.toys.example.com", after)
    return [(record.type, record.key.name) for record in records]


def owned_by(owner: JsonObject, *, block: bool = False) -> JsonObject:
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"]}
    return reference | {"uid": owner["metadata"]["uid"], "blockOwnerDeletion": block}


async def test_delete_answers_with_what_went(api: httpx.AsyncClient) -> None:
    """A Status with the uid; the DeleteOptions may come from any group, as those of kn do."""
    bear = await made(api, "bear")
    options = {"kind": "DeleteOptions", "apiVersion": "eventing.knative.dev/v1", "propagationPolicy": "Foreground"}
    answer = (await api.request("DELETE", f"{TOYS}/bear", json=options)).json()
    details = {"name": "bear", "group": "toys.example.com", "kind": "toys", "uid": bear["metadata"]["uid"]}
    assert (answer["status"], answer["details"]) == ("Success", details)


@pytest.mark.parametrize(
    "preconditions", [{"uid": "another"}, {"resourceVersion": "1"}], ids=["uid", "resource-version"]
)
async def test_preconditions(api: httpx.AsyncClient, preconditions: JsonObject) -> None:
    """An object that is not what the caller thinks stays."""
    await made(api, "bear")
    answer = await api.request("DELETE", f"{TOYS}/bear", json={"preconditions": preconditions})
    assert (answer.status_code, answer.json()["reason"]) == (409, "Conflict")
    assert "Precondition failed" in answer.json()["message"]
    assert await names(api) == ["bear"]


async def test_an_unknown_policy_is_refused(api: httpx.AsyncClient) -> None:
    """422 names the choices."""
    await made(api, "bear")
    answer = await api.delete(f"{TOYS}/bear?propagationPolicy=Sometimes")
    assert answer.status_code == 422
    assert '"Background", "Foreground", "Orphan"' in answer.json()["message"]


async def test_finalizers_hold_an_object(api: httpx.AsyncClient, store: Store) -> None:
    """It is marked, takes edits but no new finalizers, and goes with the last one: one DELETED and no MODIFIED."""
    await made(api, "bear", finalizers=["example.com/hold"])
    marked = (await api.delete(f"{TOYS}/bear")).json()
    assert marked["kind"] == "Toy"
    assert marked["metadata"]["deletionTimestamp"]
    assert (marked["metadata"]["deletionGracePeriodSeconds"], marked["metadata"]["generation"]) == (0, 2)
    again = (await api.delete(f"{TOYS}/bear")).json()
    assert again == marked
    more = {"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}
    refused = await api.patch(f"{TOYS}/bear", json=more, headers=MERGE)
    assert refused.json()["details"]["causes"][0]["reason"] == "FieldValueForbidden"
    edited = await api.patch(f"{TOYS}/bear", json={"metadata": {"labels": {"a": "b"}}}, headers=MERGE)
    assert edited.status_code == 200
    before = store.revision
    last = await api.patch(f"{TOYS}/bear", json={"metadata": {"finalizers": None}}, headers=MERGE)
    assert last.status_code == 200
    assert await names(api) == []
    assert await log_of(store, before) == [("DELETED", "bear")]


async def test_an_unqualified_finalizer_is_warned_about(api: httpx.AsyncClient) -> None:
    """The warning comes with the write that adds it."""
    answer = await api.post(TOYS, json={"metadata": {"name": "bear", "finalizers": ["hold"]}})
    assert "prefer a domain-qualified finalizer name" in answer.headers["warning"]
    later = await api.patch(f"{TOYS}/bear", json={"metadata": {"labels": {"a": "b"}}}, headers=MERGE)
    assert "warning" not in later.headers


async def test_dependents_go_with_their_owner(api: httpx.AsyncClient) -> None:
    """In the background, through generations; one with another owner only loses the reference."""
    bear, fox = await made(api, "bear"), await made(api, "fox")
    cub = await made(api, "cub", ownerReferences=[owned_by(bear)])
    await made(api, "grandcub", ownerReferences=[owned_by(cub)])
    await made(api, "shared", ownerReferences=[owned_by(bear), owned_by(fox)])
    await api.delete(f"{TOYS}/bear")
    assert await names(api) == ["fox", "shared"]
    shared = (await api.get(f"{TOYS}/shared")).json()
    assert shared["metadata"]["ownerReferences"] == [owned_by(fox)]


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
async def test_an_object_whose_owners_go_together_goes_too(api: httpx.AsyncClient, policy: str) -> None:
    """The last owner takes it along, though each owner alone would have left it."""
    bear = await made(api, "bear")
    cub = await made(api, "cub", ownerReferences=[owned_by(bear)])
    await made(api, "zebra", ownerReferences=[owned_by(bear), owned_by(cub)])
    await api.delete(f"{TOYS}/bear?propagationPolicy={policy}")
    assert await names(api) == []


async def test_orphans_stay(api: httpx.AsyncClient) -> None:
    """With Orphan the dependents lose the reference and stay."""
    bear = await made(api, "bear")
    await made(api, "cub", ownerReferences=[owned_by(bear)])
    await api.delete(f"{TOYS}/bear?propagationPolicy=Orphan")
    assert await names(api) == ["cub"]
    assert "ownerReferences" not in (await api.get(f"{TOYS}/cub")).json()["metadata"]


async def test_foreground_waits_for_blocking_dependents(api: httpx.AsyncClient) -> None:
    """The owner stays until the dependent that blocks it has lost its own finalizer."""
    bear = await made(api, "bear")
    await made(api, "cub", finalizers=["example.com/hold"], ownerReferences=[owned_by(bear, block=True)])
    marked = (await api.delete(f"{TOYS}/bear?propagationPolicy=Foreground")).json()
    assert marked["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert await names(api) == ["bear", "cub"]
    await api.patch(f"{TOYS}/cub", json={"metadata": {"finalizers": None}}, headers=MERGE)
    assert await names(api) == []


async def test_owners_in_a_circle(api: httpx.AsyncClient) -> None:
    """Two objects that own each other go together."""
    bear = await made(api, "bear")
    fox = await made(api, "fox", ownerReferences=[owned_by(bear)])
    await api.patch(f"{TOYS}/bear", json={"metadata": {"ownerReferences": [owned_by(fox)]}}, headers=MERGE)
    assert (await api.delete(f"{TOYS}/bear")).status_code == 200
    assert await names(api) == []


async def test_a_namespace_takes_its_content_along(api: httpx.AsyncClient) -> None:
    """It terminates while something in it has a finalizer, takes nothing new, and goes with the last object."""
    created = await made(api, "shop", "/api/v1/namespaces")
    assert created["status"] == {"phase": "Active"}
    assert created["metadata"]["labels"] == {"kubernetes.io/metadata.name": "shop"}
    toys = TOYS.replace("default", "shop")
    await made(api, "bear", toys)
    await made(api, "fox", toys, finalizers=["example.com/hold"])
    left = (await api.delete("/api/v1/namespaces/shop")).json()
    assert left["status"] == {"phase": "Terminating"}
    assert "finalizers" not in left["metadata"]
    assert await names(api, toys) == ["fox"]
    refused = (await api.post(toys, json={"metadata": {"name": "late"}})).json()
    assert (refused["reason"], refused["details"]["causes"][0]["reason"]) == ("Forbidden", "NamespaceTerminating")
    await api.patch(f"{toys}/fox", json={"metadata": {"finalizers": None}}, headers=MERGE)
    assert (await api.get("/api/v1/namespaces/shop")).status_code == 404


async def test_an_empty_namespace_goes_at_once(api: httpx.AsyncClient) -> None:
    """And may be made again."""
    await made(api, "shop", "/api/v1/namespaces")
    await api.delete("/api/v1/namespaces/shop")
    assert await names(api, "/api/v1/namespaces") == ["default", "kube-system"]
    await made(api, "shop", "/api/v1/namespaces")


async def test_the_default_namespace_stays(api: httpx.AsyncClient) -> None:
    """Nobody can delete it."""
    answer = await api.delete("/api/v1/namespaces/default")
    assert answer.json()["message"] == 'namespaces "default" is forbidden: this namespace may not be deleted'


async def test_delete_collection(api: httpx.AsyncClient) -> None:
    """What the selector selects, in this namespace, and the answer lists it."""
    await made(api, "shop", "/api/v1/namespaces")
    await made(api, "far", TOYS.replace("default", "shop"), labels={"a": "b"})
    await made(api, "bear", labels={"a": "b"})
    await made(api, "fox")
    answer = (await api.delete(f"{TOYS}?labelSelector=a=b")).json()
    assert [item["metadata"]["name"] for item in answer["items"]] == ["bear"]
    assert await names(api, "/apis/toys.example.com/v1/toys") == ["fox", "far"]


async def test_owners_are_known_after_a_restart(tmp_path: Path) -> None:
    """What is owned is found in the file too."""
    for restarted in (False, True):
        async with open_store(tmp_path / "again.db") as store:
            transport = httpx.ASGITransport(embedded_api((TOY, NAMESPACE), store))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as api:
                if restarted:
                    await api.delete(f"{TOYS}/bear")
                    assert await names(api) == []
                else:
                    await made(api, "cub", ownerReferences=[owned_by(await made(api, "bear"))])
