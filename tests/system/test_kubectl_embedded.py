"""The real kubectl against the embedded Kubernetes API, with toy kinds on a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn

from controller.embedded.kubeconfig import kubeconfig_text
from controller.embedded.routes import embedded_api
from controller.embedded.store import open_store
from controller.objects.kind import Column, Denied, JsonObject, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(120),
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]

TEXT = {"type": "string"}
OPEN: JsonObject = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
PORTS: JsonObject = {
    "type": "array",
    "items": OPEN,
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["port", "protocol"],
    "x-kubernetes-patch-strategy": "merge",
    "x-kubernetes-patch-merge-key": "port",
}


def refuse_thirteen(new: JsonObject, _old: JsonObject | None) -> None:
    if new["spec"].get("size") == 13:
        raise Denied('admission webhook "toys.example.com" denied the request: validation failed: size must not be 13')


TOY = Kind(
    group="toys.example.com",
    version="v1",
    kind="Toy",
    plural="toys",
    singular="toy",
    short_names=("ty",),
    categories=("all",),
    status=True,
    schema={
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "required": ["color"],
                "properties": {
                    "color": {"type": "string", "enum": ["red", "blue"], "description": "What it looks like."},
                    "size": {"type": "integer", "minimum": 1},
                },
            },
            "status": OPEN,
        },
    },
    columns=(
        Column("Color", json_path=".spec.color"),
        Column("Ready", json_path=".status.conditions[?(@.type=='Ready')].status"),
        Column("Age", type="date", json_path=".metadata.creationTimestamp"),
        Column("Size", type="integer", json_path=".spec.size", priority=1),
    ),
    validate=refuse_thirteen,
)
CONFIG_MAP = Kind(
    group="",
    version="v1",
    kind="ConfigMap",
    plural="configmaps",
    singular="configmap",
    short_names=("cm",),
    custom=False,
    schema={
        "type": "object",
        "properties": {"data": {"type": "object", "additionalProperties": TEXT}, "immutable": {"type": "boolean"}},
    },
    columns=(Column("Data", type="string", cell=lambda value: str(len(value.get("data") or {}))),),
)
NAMESPACE = Kind(
    group="",
    version="v1",
    kind="Namespace",
    plural="namespaces",
    singular="namespace",
    short_names=("ns",),
    namespaced=False,
    custom=False,
    status=True,
    schema={"type": "object", "properties": {"spec": OPEN, "status": OPEN}},
    columns=(Column("Status", json_path=".status.phase"),),
)
SERVICE = Kind(
    group="",
    version="v1",
    kind="Service",
    plural="services",
    singular="service",
    custom=False,
    schema={"type": "object", "properties": {"spec": OPEN | {"properties": {"ports": PORTS}}, "status": OPEN}},
)
EVENT = Kind(
    group="",
    version="v1",
    kind="Event",
    plural="events",
    singular="event",
    custom=False,
    field_selectors=(
        "involvedObject.kind",
        "involvedObject.name",
        "involvedObject.namespace",
        "involvedObject.uid",
        "reason",
        "type",
    ),
)
KINDS = (NAMESPACE, CONFIG_MAP, SERVICE, EVENT, TOY)

TOY_YAML = """
apiVersion: toys.example.com/v1
kind: Toy
metadata: {name: bear, labels: {shelf: top}}
spec: {color: red, size: 3}
"""


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Kubectl:
    """kubectl with the kubeconfig of one server and a home of its own."""

    url: str
    env: dict[str, str]

    async def __call__(self, *args: str, stdin: str = "", code: int | None = 0) -> Ran:
        process = await self.start(*args)
        out, err = await process.communicate(stdin.encode())
        ran = Ran(process.returncode or 0, out.decode(), err.decode())
        assert code is None or ran.code == code, ran
        return ran

    async def start(self, *args: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            "kubectl", *args, stdin=pipe, stdout=pipe, stderr=pipe, env=self.env
        )

    async def json(self, *args: str) -> Any:
        return json.loads((await self(*args, "-o", "json")).out)


@asynccontextmanager
async def served(path: Path) -> AsyncGenerator[str, None]:
    """The embedded API with the toy kinds on a free loopback port; yields its URL."""
    async with open_store(path / "api.db") as store:
        api = embedded_api(KINDS, store)
        server = uvicorn.Server(uvicorn.Config(api, port=0, log_level="warning", lifespan="off", access_log=False))
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server._serve())  # without uvicorn's capture of signals
            while not server.started:
                assert not serving.done()
                await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
            api.end_watches()
            server.should_exit = True


@pytest.fixture
async def kubectl(tmp_path: Path) -> AsyncGenerator[Kubectl, None]:
    async with served(tmp_path) as url:
        config = tmp_path / "kubeconfig"
        config.write_text(kubeconfig_text(url))
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(config)}
        yield Kubectl(url, env)


async def test_apply_twice_and_change(kubectl: Kubectl) -> None:
    """Kubectl apply says created, unchanged, configured; the second writes nothing."""
    assert (await kubectl("apply", "-f", "-", stdin=TOY_YAML)).out == "toy.toys.example.com/bear created\n"
    before = await kubectl.json("get", "toy", "bear")
    assert (await kubectl("apply", "-f", "-", stdin=TOY_YAML)).out == "toy.toys.example.com/bear unchanged\n"
    assert await kubectl.json("get", "toy", "bear") == before
    changed = TOY_YAML.replace("size: 3", "size: 4")
    assert (await kubectl("apply", "-f", "-", stdin=changed)).out == "toy.toys.example.com/bear configured\n"
    after = await kubectl.json("get", "ty", "bear")
    assert after["spec"] == {"color": "red", "size": 4}
    assert after["metadata"]["generation"] == 2
    assert int(after["metadata"]["resourceVersion"]) > int(before["metadata"]["resourceVersion"])


async def test_get_prints_columns(kubectl: Kubectl) -> None:
    """Kubectl get prints the kind's columns, the wide ones with -o wide, and the object with -o yaml."""
    await kubectl("apply", "-f", "-", stdin=TOY_YAML)
    head, row = (await kubectl("get", "toys")).out.splitlines()
    assert head.split() == ["NAME", "COLOR", "READY", "AGE"]
    assert row.split()[:2] == ["bear", "red"]
    head, row = (await kubectl("get", "toys", "-A", "-o", "wide", "--show-labels")).out.splitlines()
    assert head.split() == ["NAMESPACE", "NAME", "COLOR", "READY", "AGE", "SIZE", "LABELS"]
    assert row.split()[0] == "default"
    assert "color: red" in (await kubectl("get", "toy/bear", "-o", "yaml")).out
    assert (await kubectl("get", "all", "-o", "name")).out == "toy.toys.example.com/bear\n"
    assert (await kubectl("get", "ns")).out.split()[:2] == ["NAME", "STATUS"]
    assert (await kubectl("get", "toys", "-n", "other")).err == "No resources found in other namespace.\n"


async def test_get_watch_sees_a_change(kubectl: Kubectl) -> None:
    """Kubectl get -w prints the row that is there, then a new row for a change."""
    await kubectl("apply", "-f", "-", stdin=TOY_YAML)
    watching = await kubectl.start("get", "toys", "-w")
    assert watching.stdout is not None
    try:
        assert (await watching.stdout.readline()).split()[:2] == [b"NAME", b"COLOR"]
        assert (await watching.stdout.readline()).split()[:2] == [b"bear", b"red"]
        await kubectl("patch", "toy", "bear", "--type=merge", "-p", '{"spec":{"color":"blue"}}')
        assert (await watching.stdout.readline()).split()[:2] == [b"bear", b"blue"]
    finally:
        watching.terminate()
        await watching.communicate()


async def test_wait_for_condition(kubectl: Kubectl) -> None:
    """Kubectl wait returns once the condition is written to the status subresource, which leaves the spec alone."""
    await kubectl("apply", "-f", "-", stdin=TOY_YAML)
    waiting = await kubectl.start("wait", "toy/bear", "--for=condition=Ready", "--timeout=60s")
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}, "spec": {"color": "blue"}}
    await kubectl("patch", "toy", "bear", "--subresource=status", "--type=merge", "-p", json.dumps(ready))
    out, _ = await waiting.communicate()
    assert (waiting.returncode, out) == (0, b"toy.toys.example.com/bear condition met\n")
    toy = await kubectl.json("get", "toy", "bear")
    assert (toy["spec"]["color"], toy["metadata"]["generation"]) == ("red", 1)


async def test_describe_shows_events(kubectl: Kubectl) -> None:
    """Kubectl describe lists the events of the object, and those of no other."""
    await kubectl("apply", "-f", "-", stdin=TOY_YAML)
    toy = await kubectl.json("get", "toy", "bear")
    async with httpx.AsyncClient(base_url=kubectl.url) as client:
        for name, reason in (("bear", "Squeezed"), ("fox", "Lost")):
            answer = await client.post("/api/v1/namespaces/default/events", json=event_about(toy, name, reason))
            assert answer.status_code == 201, answer.text
    described = (await kubectl("describe", "toy", "bear")).out
    assert "Color:  red" in described
    assert "Squeezed" in described
    assert "Lost" not in described


def event_about(toy: JsonObject, name: str, reason: str) -> JsonObject:
    """A core/v1 Event about a toy of that name."""
    about = {"kind": "Toy", "namespace": "default", "name": name, "uid": toy["metadata"]["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{name}."},
        "involvedObject": about,
        "reason": reason,
        "message": "as toys are",
        "type": "Normal",
        "source": {"component": "child"},
    }


async def test_delete(kubectl: Kubectl) -> None:
    """Kubectl delete waits until the object is gone; a second one says NotFound."""
    await kubectl("apply", "-f", "-", stdin=TOY_YAML)
    # Newer versions of kubectl add the namespace.
    assert (await kubectl("delete", "toy", "bear")).out.startswith('toy.toys.example.com "bear" deleted')
    missing = 'Error from server (NotFound): toys.toys.example.com "bear" not found\n'
    assert (await kubectl("delete", "toy", "bear", code=1)).err == missing
    await kubectl("apply", "-f", "-", stdin=TOY_YAML)
    await kubectl("delete", "toy", "bear", "--cascade=foreground")
    assert (await kubectl("get", "toys", "-o", "name")).out == ""


async def test_delete_waits_for_finalizers(kubectl: Kubectl) -> None:
    """An object with a finalizer stays, marked as being deleted, until the finalizer is removed."""
    held = TOY_YAML.replace("name: bear,", "name: bear, finalizers: [example.com/hold],")
    await kubectl("apply", "-f", "-", stdin=held)
    await kubectl("delete", "toy", "bear", "--wait=false")
    toy = await kubectl.json("get", "toy", "bear")
    assert toy["metadata"]["deletionTimestamp"]
    deleting = await kubectl.start("delete", "toy", "bear")
    await kubectl("patch", "toy", "bear", "--type=json", "-p", '[{"op":"remove","path":"/metadata/finalizers"}]')
    await deleting.communicate()
    await kubectl("get", "toy", "bear", code=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(("color: red", "color: green"), 'spec.color: Unsupported value: "green"', id="enum"),
        pytest.param(("color: red, ", ""), "spec.color: Required value", id="required"),
        pytest.param(("size: 3", "size: big"), 'spec.size in body must be of type integer: "string"', id="type"),
        pytest.param(("size: 3", "sise: 3"), 'unknown field "spec.sise"', id="unknown"),
        pytest.param(("size: 3", "size: 13"), "size must not be 13", id="denied"),
    ],
)
async def test_schema_violation_names_the_field(kubectl: Kubectl, change: tuple[str, str], message: str) -> None:
    """Kubectl apply shows which field is wrong and why."""
    assert message in (await kubectl("apply", "-f", "-", stdin=TOY_YAML.replace(*change), code=1)).err


async def test_conflict(kubectl: Kubectl) -> None:
    """Kubectl replace with an old resourceVersion is refused with the message that everyone knows."""
    await kubectl("apply", "-f", "-", stdin=TOY_YAML)
    stale = (await kubectl("get", "toy", "bear", "-o", "json")).out
    await kubectl("label", "toy", "bear", "shelf=low", "--overwrite")
    refused = await kubectl("replace", "-f", "-", stdin=stale.replace('"size": 3', '"size": 5'), code=1)
    assert "the object has been modified; please apply your changes to the latest version and try again" in refused.err


async def test_label_and_annotate_and_edit(kubectl: Kubectl) -> None:
    """Labels and annotations are set, selected by, and removed."""
    await kubectl("apply", "-f", "-", stdin=TOY_YAML)
    await kubectl("label", "toy", "bear", "age=old")
    await kubectl("annotate", "toy", "bear", "example.com/note=soft")
    assert (await kubectl("get", "toy", "-l", "age in (old,new),shelf=top", "-o", "name")).out
    assert not (await kubectl("get", "toy", "-l", "age!=old", "-o", "name")).out
    await kubectl("label", "toy", "bear", "age-")
    toy = await kubectl.json("get", "toy", "bear")
    assert toy["metadata"]["labels"] == {"shelf": "top"}
    assert toy["metadata"]["annotations"]["example.com/note"] == "soft"


async def test_core_kinds(kubectl: Kubectl) -> None:
    """Kubectl create and apply of core kinds: typed creates, strategic merge patches."""
    await kubectl("create", "namespace", "shop")
    await kubectl("create", "configmap", "settings", "--from-literal=a=1", "--from-literal=b=x y", "-n", "shop")
    assert (await kubectl.json("get", "cm", "settings", "-n", "shop"))["data"] == {"a": "1", "b": "x y"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"ports": [{"port": 80, "name": "http"}, {"port": 443, "name": "https"}]},
    }
    await kubectl("apply", "-f", "-", stdin=json.dumps(service))
    service["spec"] = {"ports": [{"port": 443, "name": "tls"}, {"port": 8080, "name": "alt"}]}
    await kubectl("apply", "-f", "-", stdin=json.dumps(service))
    assert (await kubectl.json("get", "service", "web", "-n", "shop"))["spec"] == service["spec"]
    await kubectl("delete", "namespace", "shop")
    assert (await kubectl("get", "cm,service", "-A", "-o", "name")).out == ""
    refused = await kubectl("create", "cm", "late", "-n", "shop", code=1)
    assert 'namespaces "shop" not found' in refused.err


async def test_explain_diff_and_can_i(kubectl: Kubectl) -> None:
    """The commands that live on discovery, OpenAPI and dry run."""
    explained = (await kubectl("explain", "toy.spec.color")).out
    assert "What it looks like." in explained
    await kubectl("apply", "-f", "-", stdin=TOY_YAML)
    diff = await kubectl("diff", "-f", "-", stdin=TOY_YAML.replace("size: 3", "size: 4"), code=1)
    assert "+  size: 4" in diff.out
    assert (await kubectl.json("get", "toy", "bear"))["spec"]["size"] == 3
    dry = await kubectl("create", "--dry-run=server", "-f", "-", stdin=TOY_YAML.replace("bear", "fox"))
    assert dry.out == "toy.toys.example.com/fox created (server dry run)\n"
    assert (await kubectl("auth", "can-i", "create", "toys")).out == "yes\n"
    resources = (await kubectl("api-resources", "--api-group=toys.example.com")).out
    assert "ty" in resources
    assert "Server Version: v1.32.3" in (await kubectl("version")).out


async def test_objects_survive_a_restart(tmp_path: Path) -> None:
    """What was applied is there after a restart, with the same resourceVersion; a watch goes on from it."""
    async with served(tmp_path) as url, httpx.AsyncClient(base_url=url) as client:
        path = "/apis/toys.example.com/v1/namespaces/default/toys"
        toy = (await client.post(path, json={"metadata": {"name": "bear"}, "spec": {"color": "red"}})).json()
    async with served(tmp_path) as url, httpx.AsyncClient(base_url=url) as client:
        assert (await client.get(f"{path}/bear")).json() == toy
        await client.delete(f"{path}/bear")
        since = {"watch": "true", "timeoutSeconds": "1", "resourceVersion": toy["metadata"]["resourceVersion"]}
        lines = (await client.get(path, params=since)).text.splitlines()
        assert [json.loads(line)["type"] for line in lines] == ["DELETED"]


async def test_a_list_is_applied_item_by_item(kubectl: Kubectl) -> None:
    """`kind: List` as `kubectl get -o yaml` writes it; a fault in an item is found all the same."""
    items = [
        {"apiVersion": "toys.example.com/v1", "kind": "Toy", "metadata": {"name": name}, "spec": {"color": "red"}}
        for name in ("bear", "frog")
    ]
    whole = {"apiVersion": "v1", "kind": "List", "items": items}
    done = await kubectl("apply", "-f", "-", stdin=json.dumps(whole))
    assert done.out.splitlines() == ["toy.toys.example.com/bear created", "toy.toys.example.com/frog created"]
    items[1]["spec"]["colour"] = "blue"  # type: ignore[index] # JSON
    refused = await kubectl("apply", "-f", "-", stdin=json.dumps(whole), code=1)
    assert 'unknown field "spec.colour"' in refused.err
