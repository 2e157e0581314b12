"""Server-side and client-side applies in random order: the embedded API answers as a real API server does.

Each example writes one object, by two managers and in all ways that there are, to both servers. Answers must be alike:
status, message, causes, and the object with its managedFields; uids, versions and times left aside, but not whether
there is a time, nor whether the write was one.

Not part of the suite yet, since examples are random and the two still differ somewhere: run it by name,
`pytest tests/system/apply_parity.py`. PENSTOCK_APPLY_EXAMPLES says how many examples of each kind.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import httpx
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from controller.embedded.routes import embedded_api
from controller.embedded.store import open_store
from controller.objects.core_kinds import core_kinds
from controller.objects.kind import JsonObject, Kind
from tests.system import real_api as server
from tests.system.real_api import ROOT, RealApi

if TYPE_CHECKING:
    from collections.abc import Iterator

real_api = server.real_api
pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

EXAMPLES = int(os.environ.get("PENSTOCK_APPLY_EXAMPLES", "60"))
CRDS = Path(os.environ.get("PENSTOCK_CONFORMANCE") or ROOT.parent / "shared" / "conformance") / "crds"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
TEXT = {"type": "string"}
PORT = {
    "type": "object",
    "required": ["port"],
    "properties": {"port": {"type": "integer"}, "protocol": TEXT | {"default": "TCP"}, "name": TEXT},
}
TOY_SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "name": TEXT,
                "size": {"type": "integer", "default": 1},
                "maybe": TEXT | {"nullable": True},
                "set": {"type": "array", "items": TEXT, "x-kubernetes-list-type": "set"},
                "ports": {
                    "type": "array",
                    "items": PORT,
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["port", "protocol"],
                },
                "one": {"type": "object", "additionalProperties": TEXT, "x-kubernetes-map-type": "atomic"},
                "list": {"type": "array", "items": {"type": "object", "properties": {"a": TEXT}}},
                "labels": {"type": "object", "additionalProperties": TEXT},
                "free": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": True,
                    "properties": {"known": {"type": "object", "properties": {"a": TEXT}}},
                },
                "either": {"x-kubernetes-int-or-string": True},
                "deep": {
                    "type": "object",
                    "properties": {"a": {"type": "object", "properties": {"b": TEXT, "c": {"type": "integer"}}}},
                },
            },
        },
        "status": {
            "type": "object",
            "properties": {
                "phase": TEXT,
                "conditions": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["type"],
                        "properties": {"type": TEXT, "status": TEXT},
                    },
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["type"],
                },
            },
        },
    },
}


@dataclass(frozen=True)
class Write:
    """One write by one manager: `how` it is sent, and the configuration, patch or whole object that it sends."""

    how: str
    manager: str
    body: Any
    force: bool = False
    subresource: str = ""


@dataclass(frozen=True)
class Answer:
    """What a server said, without what differs between any two servers."""

    code: int
    said: Any
    written: bool
    changed: bool


class Server:
    """One of the two, as the writes see it."""

    def __init__(self, client: httpx.AsyncClient, kind: Kind, name: str) -> None:
        self._client = client
        self._kind = kind
        self._name = name
        base = f"/apis/{kind.group}" if kind.group else "/api"
        self._collection = f"{base}/{kind.version}/namespaces/default/{kind.plural}"
        self._path = f"{self._collection}/{name}"

    async def write(self, write: Write) -> Answer:
        before = await self._get()
        answer = await self._send(write, before)
        after = await self._get()
        said = _comparable(answer.json())
        written = _version(before) != _version(after)
        return Answer(answer.status_code, said, written, _shown(before) != _shown(after))

    async def _get(self) -> JsonObject | None:
        answer = await self._client.get(self._path)
        found: JsonObject | None = answer.json() if answer.status_code == 200 else None
        return found

    async def _send(self, write: Write, live: JsonObject | None) -> httpx.Response:
        path = f"{self._path}/{write.subresource}" if write.subresource else self._path
        if write.how == "server-side":
            query = {"fieldManager": write.manager} | ({"force": "true"} if write.force else {})
            return await self._patch(path, "apply-patch+yaml", query, self._whole(write.body))
        query = {"fieldManager": write.manager}
        if write.how == "client-side":
            return await self._apply(path, query, self._whole(write.body), live)
        if write.how == "put":
            body = self._whole(write.body)
            body["metadata"]["resourceVersion"] = _version(live)
            return await self._client.put(path, params=query, json=body)
        if write.how == "reset":
            return await self._patch(path, "merge-patch+json", query, {"metadata": {"managedFields": [{}]}})
        return await self._patch(path, "merge-patch+json", query, write.body)

    async def _apply(self, path: str, query: dict[str, str], config: Any, live: JsonObject | None) -> httpx.Response:
        """As kubectl applies on its own side: it remembers in an annotation what it applied, and sends differences."""
        noted = copy.deepcopy(config)
        noted["metadata"].setdefault("annotations", {})[LAST_APPLIED] = json.dumps(config, sort_keys=True)
        if live is None:
            return await self._client.post(self._collection, params=query, json=noted)
        last = json.loads(live["metadata"].get("annotations", {}).get(LAST_APPLIED) or "{}")
        kind = "merge-patch+json" if self._kind.custom else "strategic-merge-patch+json"
        return await self._patch(path, kind, query, three_way(last, noted, live))

    async def _patch(self, path: str, media: str, query: dict[str, str], body: Any) -> httpx.Response:
        headers = {"content-type": f"application/{media}"}
        return await self._client.patch(path, params=query, headers=headers, content=json.dumps(body))

    def _whole(self, body: JsonObject) -> JsonObject:
        metadata = {"name": self._name, **body.get("metadata", {})}
        return {"apiVersion": self._kind.api_version, "kind": self._kind.kind, **body, "metadata": metadata}


def three_way(last: Any, new: Any, live: Any) -> JsonObject:
    """The merge patch that makes of `live` what `new` says, and removes what `last` said and `new` does not."""
    patch: JsonObject = {name: None for name in last if name not in new}
    for name, value in new.items():
        old = live.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            before = last.get(name)
            inner = three_way(before if isinstance(before, dict) else {}, value, old)
            if inner:
                patch[name] = inner
        elif value is not None and value != old:
            patch[name] = value
    return patch


def _version(value: JsonObject | None) -> str:
    return "" if value is None else str(value["metadata"]["resourceVersion"])


def _shown(value: JsonObject | None) -> Any:
    return None if value is None else _comparable(copy.deepcopy(value))


def _comparable(body: JsonObject) -> Any:
    if body["kind"] == "Status":
        return _comparable_error(body)
    metadata = body["metadata"]
    for name in ("uid", "resourceVersion", "creationTimestamp"):
        metadata.pop(name, None)
    for entry in metadata.get("managedFields", ()):
        entry["time"] = "time" in entry
    # The order is by time.
    metadata.get("managedFields", []).sort(key=lambda entry: json.dumps(entry, sort_keys=True))
    return body


def _comparable_error(body: JsonObject) -> Any:
    """Where several things are wrong, a real server names them in any order."""
    causes = sorted(body.get("details", {}).get("causes", ()), key=lambda cause: json.dumps(cause, sort_keys=True))
    message = "" if len(causes) > 1 else body["message"]
    return body["code"], body.get("reason"), message, causes


class Pair:
    """Both servers, with the same kinds."""

    def __init__(self, real: httpx.AsyncClient, embedded: httpx.AsyncClient, kinds: dict[str, Kind]) -> None:
        self.real = real
        self.embedded = embedded
        self.kinds = kinds

    async def compare(self, kind: str, writes: list[Write]) -> None:
        name = f"x{uuid.uuid4().hex[:12]}"
        real, embedded = (Server(client, self.kinds[kind], name) for client in (self.real, self.embedded))
        for write in writes:
            expected, got = await real.write(write), await embedded.write(write)
            note(f"{write}\n  real     {expected}\n  embedded {got}")
            assert (got.code, got.said) == (expected.code, expected.said)
            # A real server may store what nobody sees, as empty labels, and write when it drops it.
            assert got.written == expected.written or (expected.written and not expected.changed)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as running:
        yield running


@pytest.fixture(scope="module")
def pair(real_api: RealApi, runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    if not CRDS.exists():
        pytest.skip(f"no definitions at {CRDS}")
    definitions = [YAML(typ="safe").load(path) for path in sorted(CRDS.glob("*.yaml"))] + [toy_definition()]
    kinds = {kind.kind: kind for kind in [*map(kind_of, definitions), *core_kinds()]}
    opening = open_store(tmp_path_factory.mktemp("embedded") / "api.db")
    store = runner.run(opening.__aenter__())
    app = embedded_api(tuple(kinds.values()), store)
    embedded = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")
    real = real_api.client()
    runner.run(define(real, definitions, kinds))
    yield Pair(real, embedded, kinds)
    runner.run(real.aclose())
    runner.run(opening.__aexit__(None, None, None))


async def define(real: httpx.AsyncClient, definitions: list[JsonObject], kinds: dict[str, Kind]) -> None:
    """Make a real server know the kinds, and wait until it serves them."""
    for definition in definitions:
        definition["spec"].pop("conversion", None)
        answer = await real.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json=definition)
        assert answer.status_code == 201, answer.text
    for kind in kinds.values():
        if kind.custom:
            async with asyncio.timeout(30):
                while (await real.get(f"/apis/{kind.api_version}/{kind.plural}")).status_code != 200:  # noqa: ASYNC110 - it happens in another process
                    await asyncio.sleep(0.1)


def kind_of(definition: JsonObject) -> Kind:
    """The kind of a definition, at its newest served version, without the rules that Knative's webhooks have."""
    spec = definition["spec"]
    version = next(each for each in spec["versions"] if each["storage"])
    names = spec["names"]
    return Kind(
        spec["group"],
        version["name"],
        names["kind"],
        names["plural"],
        names["singular"],
        schema=version["schema"]["openAPIV3Schema"],
        status="status" in version.get("subresources", {}),
    )


def toy_definition() -> JsonObject:
    version = {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "toys.penstock.test"},
        "spec": {
            "group": "penstock.test",
            "scope": "Namespaced",
            "names": {"kind": "Toy", "plural": "toys", "singular": "toy"},
            "versions": [version | {"schema": {"openAPIV3Schema": TOY_SCHEMA}}],
        },
    }


Values: TypeAlias = st.SearchStrategy[Any]

FREE: Values = st.recursive(
    st.one_of(st.sampled_from(["a", "b"]), st.integers(0, 1), st.booleans(), st.none()),
    lambda inner: st.one_of(st.dictionaries(st.sampled_from("xyz"), inner, max_size=2), st.lists(inner, max_size=2)),
    max_leaves=4,
)


def values(schema: JsonObject) -> Values:
    """Values that fit a schema; now and then null, which does not always."""
    if schema.get("x-kubernetes-int-or-string"):
        return st.one_of(st.integers(0, 1), st.sampled_from(["a", "b"]))
    match schema.get("type"):
        case "string":
            found: Values = st.sampled_from(schema.get("enum") or ["a", "b", "c<"])
        case "integer" | "number":
            found = st.integers(1, 3)
        case "boolean":
            found = st.booleans()
        case "array":
            found = lists(schema)
        case _:
            found = objects(schema)
    return st.one_of(*[found] * 9, st.none())


def lists(schema: JsonObject) -> Values:
    items = values(schema["items"]).filter(lambda item: item is not None)
    kind = schema.get("x-kubernetes-list-type")
    if kind == "set":
        return st.lists(items, max_size=3, unique=True)
    if kind == "map":
        keys = schema["x-kubernetes-list-map-keys"]
        keyed = st.builds(
            lambda item, named: item | named,
            items,
            st.fixed_dictionaries({keys[0]: values(schema["items"]["properties"][keys[0]]).filter(bool)}),
        )
        return st.lists(keyed, max_size=3, unique_by=lambda item: tuple(item.get(key) or "TCP" for key in keys))
    return st.lists(items, max_size=2)


def objects(schema: JsonObject) -> Values:
    properties = schema.get("properties", {})
    optional = {name: values(inner) for name, inner in sorted(properties.items())}
    others = schema.get("additionalProperties")
    if isinstance(others, dict):
        return st.dictionaries(st.sampled_from("xyz"), values(others), max_size=2)
    known: Values = st.just({})
    if optional:
        names = st.lists(st.sampled_from(sorted(optional)), max_size=3, unique=True)
        known = names.flatmap(lambda chosen: st.fixed_dictionaries({name: optional[name] for name in chosen}))
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        extra = st.dictionaries(st.sampled_from("xyz"), FREE, max_size=2)
        return st.builds(lambda left, right: left | right, extra, known)
    return known


METADATA: Values = st.fixed_dictionaries(
    {},
    optional={
        "labels": st.dictionaries(st.sampled_from("ab"), st.sampled_from("12"), max_size=2),
        "annotations": st.dictionaries(st.sampled_from("ab"), st.sampled_from("12"), max_size=1),
        "finalizers": st.lists(st.sampled_from(["x.y/a", "x.y/b"]), max_size=2, unique=True),
        "ownerReferences": st.lists(
            st.fixed_dictionaries(
                {
                    "apiVersion": st.just("v1"),
                    "kind": st.just("X"),
                    "name": st.sampled_from("mn"),
                    "uid": st.sampled_from("12"),
                }
            ),
            max_size=2,
            unique_by=lambda owner: owner["uid"],
        ),
    },
)


LEFT_OUT = ("apiVersion", "kind", "binaryData", "immutable")
"""Fields that are not varied: the type, and what the rules of core kinds are about, not those of merging."""


def bodies(kind: Kind) -> Values:
    parts = {name: values(inner) for name, inner in kind.schema["properties"].items() if name != "metadata"}
    parts = {name: part for name, part in parts.items() if name not in LEFT_OUT}
    mandatory = {"spec": parts.pop("spec")} if "spec" in parts else {}
    return st.fixed_dictionaries(mandatory, optional={**parts, "metadata": METADATA})


def sequences(kind: Kind) -> st.SearchStrategy[list[Write]]:
    body = bodies(kind)
    server_side = st.builds(Write, st.just("server-side"), st.sampled_from(["kubectl", "other"]), body, st.booleans())
    client_side = st.builds(
        Write, st.just("client-side"), st.sampled_from(["kubectl-client-side-apply", "other"]), body
    )
    patches = st.builds(Write, st.sampled_from(["merge", "put"]), st.sampled_from(["edit", "other"]), body)
    writes = [server_side, server_side, client_side, patches, st.just(Write("reset", "edit", {}))]
    if kind.status:
        how = st.sampled_from(["server-side", "merge", "put"])
        managers = st.sampled_from(["loop", "other"])
        writes.append(st.builds(Write, how, managers, body, st.booleans(), st.just("status")))
    return st.lists(st.one_of(writes), min_size=2, max_size=8)


@pytest.mark.parametrize("kind", ["Toy", "Trigger", "Broker", "ConfigMap"])
def test_both_answer_alike(pair: Pair, runner: asyncio.Runner, kind: str) -> None:
    """Whatever two managers write, both servers say the same."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(writes=sequences(pair.kinds[kind]))
    def check(writes: list[Write]) -> None:
        runner.run(pair.compare(kind, writes))

    check()
