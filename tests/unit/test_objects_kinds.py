"""The kinds as data: names, columns, schemas, and the CRDs made from them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from controller.objects.crd import custom_resource_definition
from controller.objects.kinds import KINDS, plural_of

ROOT = Path(__file__).resolve().parents[2]
BY_RESOURCE = {kind.resource: kind for kind in KINDS}
EVENTING = ("brokers.eventing.knative.dev", "triggers.eventing.knative.dev")


@pytest.fixture
def conformance() -> Path:
    """The folder of test data that others wrote."""
    given = os.environ.get("PENSTOCK_CONFORMANCE")
    folder = Path(given) if given else ROOT.parent / "shared" / "conformance"
    if not folder.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{folder} is missing")
        pytest.skip(f"no conformance data at {folder}")
    return folder


def test_every_name_is_used_once() -> None:
    """No two kinds share a resource, and no two kinds share a short name."""
    assert len(BY_RESOURCE) == len(KINDS)
    short = [name for kind in KINDS for name in kind.short_names]
    assert len(short) == len(set(short))


def test_dead_letters_are_not_stored() -> None:
    """The embedded API must ask the delivery store for dead letters."""
    assert [kind.resource for kind in KINDS if not kind.stored] == ["deadletters.penstock.dev"]


@pytest.mark.parametrize(
    ("group", "kind", "plural"),
    [
        ("", "Service", "services"),
        ("eventing.knative.dev", "Broker", "brokers"),
        ("messaging.knative.dev", "InMemoryChannel", "inmemorychannels"),
        ("networking.k8s.io", "Ingress", "ingresses"),
        ("x.dev", "Policy", "policies"),
    ],
)
def test_plural(group: str, kind: str, plural: str) -> None:
    """Kinds that are not ours get the plural that Kubernetes guesses."""
    assert plural_of(group, kind) == plural


@pytest.mark.parametrize("resource", EVENTING)
def test_schema_knows_what_knative_knows(resource: str, conformance: Path) -> None:
    """Names, columns and every property of Knative's CRD are ours too, with the same types."""
    theirs = _load(conformance / "crds" / f"{BY_RESOURCE[resource].singular}.yaml")
    ours = custom_resource_definition(BY_RESOURCE[resource])
    assert ours["spec"]["names"] == theirs["spec"]["names"]
    their_version, our_version = theirs["spec"]["versions"][0], ours["spec"]["versions"][0]
    assert our_version["additionalPrinterColumns"] == their_version["additionalPrinterColumns"]
    lacking = list(_lacking(their_version["schema"]["openAPIV3Schema"], our_version["schema"]["openAPIV3Schema"], ""))
    assert lacking == []


@pytest.mark.parametrize("resource", EVENTING)
def test_status_is_not_pruned_by_knative(resource: str, conformance: Path) -> None:
    """Our status has no property that a cluster with Knative's CRDs would drop."""
    theirs = _load(conformance / "crds" / f"{BY_RESOURCE[resource].singular}.yaml")
    their_status = theirs["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    our_status = BY_RESOURCE[resource].schema["properties"]["status"]
    assert list(_lacking(our_status, their_status, "status")) == []


def test_deployed_crds_are_those_of_the_schemas() -> None:
    """deploy/crds is what scripts/crds writes."""
    run = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "crds"), "--check"], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize(
    ("resource", "obj", "cells"),
    [
        ("services", {"spec": {}}, ["<none>", "<none>", "<none>", "<none>"]),
        (
            "services",
            {
                "spec": {
                    "externalName": "localhost",
                    "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}],
                    "selector": {"b": "2", "a": "1"},
                }
            },
            ["<none>", "localhost", "80/TCP,53/UDP", "a=1,b=2"],
        ),
        ("configmaps", {"data": {"a": "1"}, "binaryData": {"b": "eA=="}}, [2]),
        ("secrets", {}, [0]),
        ("events", {"involvedObject": {"kind": "Broker", "name": "b"}}, ["broker/b"]),
        (
            "endpointslices.discovery.k8s.io",
            {"ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1", "10.0.0.2"]}]},
            ["80", "10.0.0.1,10.0.0.2"],
        ),
        (
            "deployments.apps",
            {"spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}},
            ["0/2", 0, 0, "c", "i", "<none>"],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_core_cells(resource: str, obj: dict[str, Any], cells: list[object]) -> None:
    """The cells that no JSON path can say are those that kubectl is used to."""
    assert [column.cell(obj) for column in BY_RESOURCE[resource].columns if column.cell] == cells


def _load(path: Path) -> Any:
    return YAML(typ="safe").load(path)


def _lacking(one: dict[str, Any], other: dict[str, Any], path: str) -> Any:
    """The paths of what one schema has and the other has not, or has with another type."""
    if one.get("type") != other.get("type"):
        yield f"{path} ({one.get('type')}, {other.get('type')})"
    for name, schema in one.get("properties", {}).items():
        if name in other.get("properties", {}):
            yield from _lacking(schema, other["properties"][name], f"{path}.{name}")
        elif not other.get("x-kubernetes-preserve-unknown-fields"):
            yield f"{path}.{name}"
    if "items" in one:
        yield from _lacking(one["items"], other.get("items", {}), f"{path}[]")
