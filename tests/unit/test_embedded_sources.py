"""Kinds of the embedded Kubernetes API whose objects come from a source instead of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from controller.embedded.registry import Page, ResourceSource
from controller.embedded.routes import embedded_api
from controller.embedded.store import open_store
from controller.objects.kind import Column, JsonObject, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

LETTER = Kind(
    "ops.example.com",
    "v1alpha1",
    "Letter",
    "letters",
    "letter",
    stored=False,
    columns=(Column("Reason", json_path=".spec.reason"),),
    field_selectors=("spec.reason",),
)
LETTERS = "/apis/ops.example.com/v1alpha1/namespaces/home/letters"


def letter(name: str, reason: str) -> JsonObject:
    metadata = {"name": name, "namespace": "home"}
    return {"apiVersion": LETTER.api_version, "kind": "Letter", "metadata": metadata, "spec": {"reason": reason}}


class Reading:
    """A source with two letters that can only be read."""

    def __init__(self) -> None:
        self.letters = {"a": letter("a", "late"), "b": letter("b", "lost")}

    async def list(self, namespace: str, limit: int, continue_: str) -> Page:
        after = [name for name in sorted(self.letters) if namespace in ("", "home") and name > continue_]
        shown = after[: limit or None]
        more = shown[-1] if len(shown) < len(after) else ""
        return Page([self.letters[name] for name in shown], more)

    async def get(self, namespace: str, name: str) -> JsonObject | None:
        return self.letters.get(name) if namespace == "home" else None


class Deleting(Reading):
    """One whose letters can be deleted and sent again."""

    actions = ("resend",)

    async def delete(self, namespace: str, name: str) -> bool:
        return namespace == "home" and self.letters.pop(name, None) is not None

    async def act(self, namespace: str, name: str, action: str, body: JsonObject) -> JsonObject | None:
        found = await self.get(namespace, name)
        return found and found | {"status": {action: body.get("to", "sender")}}


@pytest.fixture(params=[Reading, Deleting])
def source(request: pytest.FixtureRequest) -> ResourceSource:
    made: ResourceSource = request.param()
    return made


@pytest.fixture
async def api(tmp_path: Path, source: ResourceSource) -> AsyncGenerator[httpx.AsyncClient, None]:
    async with open_store(tmp_path / "api.db") as store:
        app = embedded_api((LETTER,), store, {"letters.ops.example.com": source})
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            yield client


async def test_reads_come_from_the_source(api: httpx.AsyncClient) -> None:
    """Get, list in pages, tables and selectors, and 404 for what the source does not have."""
    assert (await api.get(f"{LETTERS}/a")).json() == letter("a", "late")
    page = (await api.get(f"{LETTERS}?limit=1")).json()
    assert [page["kind"], page["metadata"]["continue"]] == ["LetterList", "a"]
    rest = (await api.get(f"{LETTERS}?limit=1&continue=a")).json()
    assert [item["metadata"]["name"] for item in rest["items"]] == ["b"]
    table = (await api.get(LETTERS, headers={"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"})).json()
    assert [row["cells"] for row in table["rows"]] == [["a", "late"], ["b", "lost"]]
    lost = (await api.get("/apis/ops.example.com/v1alpha1/letters?fieldSelector=spec.reason=lost")).json()
    assert [item["metadata"]["name"] for item in lost["items"]] == ["b"]
    missing = (await api.get(f"{LETTERS}/x")).json()
    assert missing["message"] == 'letters.ops.example.com "x" not found'


async def test_verbs_are_those_of_the_source(api: httpx.AsyncClient, source: ResourceSource) -> None:
    """What it cannot do is not in discovery and is 405."""
    rows = (await api.get("/apis/ops.example.com/v1alpha1")).json()["resources"]
    deletes = isinstance(source, Deleting)
    assert ("delete" in rows[0]["verbs"]) is deletes
    assert [row["name"] for row in rows[1:]] == (["letters/resend"] if deletes else [])
    assert (await api.delete(f"{LETTERS}/a")).status_code == (200 if deletes else 405)
    assert (await api.get(f"{LETTERS}/a")).status_code == (404 if deletes else 200)
    assert (await api.post(f"{LETTERS}/b/resend", json={"to": "me"})).status_code == (201 if deletes else 404)
    for answer in (
        await api.post(LETTERS, json=letter("c", "new")),
        await api.put(f"{LETTERS}/b", json=letter("b", "new")),
        await api.get(f"{LETTERS}?watch=true"),
    ):
        assert (answer.status_code, answer.json()["reason"]) == (405, "MethodNotAllowed")


async def test_an_action(tmp_path: Path) -> None:
    """POST to NAME/ACTION calls the source with the body and answers with what it returns."""
    async with open_store(tmp_path / "api.db") as store:
        app = embedded_api((LETTER,), store, {"letters.ops.example.com": Deleting()})
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as api:
            assert (await api.post(f"{LETTERS}/a/resend")).json()["status"] == {"resend": "sender"}
            assert (await api.post(f"{LETTERS}/a/resend", json={"to": "me"})).json()["status"] == {"resend": "me"}
            assert (await api.post(f"{LETTERS}/x/resend")).status_code == 404
            assert (await api.get(f"{LETTERS}/a/resend")).status_code == 405


async def test_a_missing_source_is_an_error_at_start(tmp_path: Path) -> None:
    """Not at the first request."""
    async with open_store(tmp_path / "api.db") as store:
        with pytest.raises(ValueError, match=r"no source for letters\.ops\.example\.com"):
            embedded_api((LETTER,), store)
