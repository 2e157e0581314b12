"""The samples: the service answers as its README says, the manifests fit the real definitions, the commands exist."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from ruamel.yaml import YAML

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"
FOLDERS = sorted(path.name for path in SAMPLES.iterdir() if path.is_dir() and path.name != "__pycache__")
LOCAL_URL = "penstock.dev/local-url"


def manifests(folder: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for path in sorted((SAMPLES / folder).glob("*.yaml")):
        found += YAML(typ="safe", pure=True).load_all(path.read_text())
    return found


def of_kind(folder: str, kind: str) -> dict[str, dict[str, Any]]:
    return {m["metadata"]["name"]: m for m in manifests(folder) if m["kind"] == kind}


@pytest.fixture
async def helloworld() -> AsyncIterator[httpx.AsyncClient]:
    spec = importlib.util.spec_from_file_location("helloworld_app", SAMPLES / "helloworld" / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    transport = httpx.ASGITransport(module.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://helloworld") as client:
        yield client


@pytest.mark.parametrize("encode", [to_binary_event, to_structured_event], ids=["binary", "structured"])
async def test_helloworld_answers_an_event_with_an_event(
    helloworld: httpx.AsyncClient, encode: Callable[[CloudEvent], HTTPMessage], caplog: pytest.LogCaptureFixture
) -> None:
    """The Knative hello world: the event is logged, the reply has its own type and says `Hello, Knative!`."""
    caplog.set_level(logging.INFO, "helloworld")
    message = encode(CloudEvent({"id": "e-1", "source": "/s", "type": "dev.knative.samples.helloworld"}, {"msg": "Hi"}))
    response = await helloworld.post("/", headers=message.headers, content=message.body)

    assert response.status_code == 200
    reply = from_http_event(HTTPMessage(dict(response.headers), response.content))
    assert reply.get_type() == "dev.knative.samples.hifromknative"
    assert reply.get_data() == {"msg": "Hello, Knative!"}
    assert "event e-1 from /s" in caplog.text
    assert "Hello, Knative!" in caplog.text


async def test_helloworld_takes_other_events_without_an_answer(helloworld: httpx.AsyncClient) -> None:
    """204 and nothing else: a body that is no CloudEvent would be a failed delivery."""
    message = to_binary_event(CloudEvent({"source": "/s", "type": "another"}))
    response = await helloworld.post("/", headers=message.headers, content=message.body)
    assert (response.status_code, response.content) == (204, b"")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param({}, b"hello", id="text"),
        pytest.param({}, b"[]", id="an array"),
        pytest.param({"ce-specversion": "1.0", "ce-id": "1", "ce-type": "t"}, b"", id="no source"),
        pytest.param({"ce-specversion": "7", "ce-id": "1", "ce-type": "t", "ce-source": "s"}, b"", id="an odd version"),
    ],
)
async def test_helloworld_refuses_what_is_no_event(
    helloworld: httpx.AsyncClient, headers: dict[str, str], body: bytes
) -> None:
    response = await helloworld.post("/", headers=headers, content=body)
    assert response.status_code == 400
    assert "not a CloudEvent" in response.text


async def test_helloworld_greets_a_browser(helloworld: httpx.AsyncClient) -> None:
    assert (await helloworld.get("/")).text == "Hello, Knative!"


def test_every_sample_is_listed() -> None:
    listed = re.findall(r"\]\(([\w-]+)/README.md\)", (SAMPLES / "README.md").read_text())
    assert sorted(listed) == FOLDERS


@pytest.mark.parametrize("folder", FOLDERS)
def test_manifests_are_complete(folder: str) -> None:
    """Applied in the order of their names, each object refers only to what was there before it."""
    seen: set[tuple[str, str]] = set()
    for manifest in manifests(folder):
        assert manifest["metadata"]["namespace"] == "default"
        if manifest["kind"] == "Trigger":
            assert ("Broker", manifest["spec"]["broker"]) in seen
            for destination in destinations(manifest["spec"]):
                assert (destination["ref"]["kind"], destination["ref"]["name"]) in seen
        seen.add((manifest["kind"], manifest["metadata"]["name"]))
    assert {kind for kind, _ in seen} == {"Broker", "Service", "Trigger"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_service_finds_its_work_in_both_worlds(folder: str) -> None:
    """The port of the annotation is that of the pods, and it is the one that the README starts something on."""
    readme = (SAMPLES / folder / "README.md").read_text()
    for service in of_kind(folder, "Service").values():
        port = service["spec"]["ports"][0]["targetPort"]
        assert service["metadata"]["annotations"][LOCAL_URL] == f"http://127.0.0.1:{port}"
        assert service["spec"]["selector"]
        started = f"--port {port}" if folder != "helloworld" else "samples/helloworld/app.py"
        assert started in readme


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("kind", ["Broker", "Trigger"])
def test_manifests_use_only_fields_that_knative_has(folder: str, kind: str) -> None:
    """A real API server would prune, or refuse, anything else."""
    schema = schema_of(kind)
    for manifest in of_kind(folder, kind).values():
        assert list(unknown({k: v for k, v in manifest.items() if k == "spec"}, schema, "")) == []


def destinations(spec: dict[str, Any]) -> list[dict[str, Any]]:
    sink_of = spec.get("delivery", {}).get("deadLetterSink")
    return [spec["subscriber"], *([sink_of] if sink_of else [])]


def schema_of(kind: str) -> dict[str, Any]:
    folder = Path(os.environ.get("PENSTOCK_CONFORMANCE") or ROOT.parent / "shared" / "conformance")
    path = folder / "crds" / f"{kind.lower()}.yaml"
    if not path.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{path} is missing: CI has the conformance data")
        pytest.skip("the conformance data is not here: PENSTOCK_CONFORMANCE names it")
    versions = YAML(typ="safe", pure=True).load(path.read_text())["spec"]["versions"]
    found: dict[str, Any] = next(v for v in versions if v["name"] == "v1")["schema"]["openAPIV3Schema"]
    return found


def unknown(value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
    """The paths in `value` that `schema` does not know, or knows with another type."""
    known = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    if "type" in schema and not isinstance(value, known[schema["type"]]):
        yield f"{path}: not a {schema['type']}"
    elif isinstance(value, dict):
        properties, more = schema.get("properties", {}), schema.get("additionalProperties")
        for name, inner in value.items():
            if name in properties:
                yield from unknown(inner, properties[name], f"{path}.{name}")
            elif isinstance(more, dict):
                yield from unknown(inner, more, f"{path}.{name}")
            elif not more and not schema.get("x-kubernetes-preserve-unknown-fields"):
                yield f"{path}.{name}"
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from unknown(inner, schema["items"], f"{path}[{number}]")
