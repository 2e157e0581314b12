"""Kubectl's server-side apply against `penstock serve`: conflicts, taking over, migration, diff; with two versions of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.system.real_api import CACHE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.system.support import Penstock

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

ON_PATH = shutil.which("kubectl") or ""
NEWER = str(CACHE / "bin" / "kubectl")
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

BROKER = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: default, labels: {team: a}}
spec:
  delivery: {retry: 3, backoffDelay: PT1S}
"""


@dataclass(frozen=True)
class Kubectl:
    """One version of kubectl, with a kubeconfig and a home of its own."""

    path: str
    env: dict[str, str]

    def __call__(self, *args: str, stdin: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self.path, *args], input=stdin, capture_output=True, text=True, env=self.env, check=False, timeout=60
        )
        assert done.returncode == code, done
        return done

    def apply(self, text: str, *args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self("apply", "--server-side", "-f", "-", *args, stdin=text, code=code)

    def broker(self) -> Any:
        return json.loads(self("get", "broker", "default", "-o", "json", "--show-managed-fields").stdout)


@pytest.fixture(params=[pytest.param(ON_PATH, id="on the path"), pytest.param(NEWER, id="newer")])
async def kubectl(request: pytest.FixtureRequest, penstock: Callable[..., Penstock], tmp_path: Path) -> Kubectl:
    if not shutil.which(request.param or "kubectl"):
        pytest.skip("this kubectl is not installed: `../shared/cluster/cluster up` installs the newer one")
    one = penstock()
    await one.start()
    config = str(one.data / "kubeconfig")
    return Kubectl(request.param, {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": config})


def owners(value: Any) -> dict[str, Any]:
    """The fields that were written from outside, by `manager/operation`; those of the status are penstock's own."""
    return {
        f"{entry['manager']}/{entry['operation']}": entry["fieldsV1"]
        for entry in value["metadata"].get("managedFields", ())
        if entry.get("subresource") != "status"
    }


def test_apply_conflict_and_force(kubectl: Kubectl) -> None:
    """A second manager is refused with the field and its owner, and may take it by force; the first then gives it up."""
    assert kubectl.apply(BROKER).stdout == "broker.eventing.knative.dev/default serverside-applied\n"
    applied: dict[str, Any] = {
        "f:metadata": {"f:labels": {"f:team": {}}},
        "f:spec": {"f:delivery": {"f:backoffDelay": {}, "f:retry": {}}},
    }
    assert owners(kubectl.broker()) == {"kubectl/Apply": applied}

    other = BROKER.replace("retry: 3", "retry: 7")
    refused = kubectl.apply(other, "--field-manager=ops", code=1)
    assert 'Apply failed with 1 conflict: conflict with "kubectl": .spec.delivery.retry' in refused.stderr
    assert "--force-conflicts" in refused.stderr
    assert kubectl.broker()["spec"]["delivery"]["retry"] == 3

    kubectl.apply(other, "--field-manager=ops", "--force-conflicts")
    taken = kubectl.broker()
    assert taken["spec"]["delivery"]["retry"] == 7
    assert owners(taken)["kubectl/Apply"]["f:spec"] == {"f:delivery": {"f:backoffDelay": {}}}
    assert owners(taken)["ops/Apply"] == applied

    # What both have stays when one leaves it out; what one has alone goes.
    kubectl.apply(BROKER.replace("retry: 3, ", "").replace("team: a", "team: a, tier: b"))
    left = kubectl.broker()
    assert left["spec"]["delivery"] == {"retry": 7, "backoffDelay": "PT1S"}
    kubectl.apply(BROKER.replace("retry: 3, ", ""))
    assert kubectl.broker()["metadata"]["labels"] == {"team": "a"}


def test_applying_again_writes_nothing(kubectl: Kubectl) -> None:
    """The same configuration again leaves the version and the times as they are."""
    kubectl.apply(BROKER)
    kubectl("wait", "--for=condition=Ready", "--timeout=20s", "broker/default")
    before = kubectl.broker()
    kubectl.apply(BROKER)
    assert kubectl.broker() == before


def test_migration_from_client_side_apply(kubectl: Kubectl) -> None:
    """After client-side apply, kubectl takes its fields over without a conflict, and can then remove them."""
    assert kubectl("apply", "-f", "-", stdin=BROKER).stdout == "broker.eventing.knative.dev/default created\n"
    assert list(owners(kubectl.broker())) == ["kubectl-client-side-apply/Update"]

    kubectl.apply(BROKER.replace("retry: 3", "retry: 5"))
    migrated = kubectl.broker()
    assert migrated["spec"]["delivery"]["retry"] == 5
    found = owners(migrated)
    assert "kubectl-client-side-apply/Update" not in found
    assert found["kubectl/Apply"]["f:spec"] == {"f:delivery": {"f:backoffDelay": {}, "f:retry": {}}}
    assert json.loads(migrated["metadata"]["annotations"][LAST_APPLIED])["spec"]["delivery"]["retry"] == 5

    kubectl.apply(BROKER.replace("retry: 3, ", ""))
    assert kubectl.broker()["spec"]["delivery"] == {"backoffDelay": "PT1S"}


def test_client_side_apply_after_server_side(kubectl: Kubectl) -> None:
    """Client-side apply still works on what was applied on the server's side."""
    kubectl.apply(BROKER)
    kubectl("apply", "-f", "-", stdin=BROKER.replace("retry: 3", "retry: 4"))
    changed = kubectl.broker()
    assert changed["spec"]["delivery"]["retry"] == 4
    assert owners(changed)["kubectl/Apply"]["f:spec"] == {"f:delivery": {"f:backoffDelay": {}}}


def test_diff_and_dry_run(kubectl: Kubectl) -> None:
    """Diff shows what an apply would change, and a dry run answers as it would; neither writes."""
    kubectl.apply(BROKER)
    changed = BROKER.replace("retry: 3", "retry: 4")
    diff = kubectl("diff", "--server-side", "-f", "-", stdin=changed, code=1).stdout
    assert "-    retry: 3" in diff
    assert "+    retry: 4" in diff
    assert kubectl("diff", "--server-side", "-f", "-", stdin=BROKER).stdout == ""
    dry = kubectl.apply(changed.replace("name: default", "name: other"), "--dry-run=server")
    assert dry.stdout == "broker.eventing.knative.dev/other serverside-applied (server dry run)\n"
    assert kubectl("get", "broker", "-o", "name").stdout == "broker.eventing.knative.dev/default\n"


def test_what_is_unknown_is_refused(kubectl: Kubectl) -> None:
    """A field that the schema does not have is named."""
    refused = kubectl.apply(BROKER.replace("team: a}", "team: a}, nmae: x"), code=1)
    assert ".metadata.nmae: field not declared in schema" in refused.stderr


def test_other_kinds(kubectl: Kubectl) -> None:
    """Core kinds merge their lists by keys: two managers share the ports of a Service."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    for manager, port in (("a", 80), ("b", 443)):
        kubectl.apply(
            json.dumps(service | {"spec": {"ports": [{"port": port, "name": manager}]}}), f"--field-manager={manager}"
        )
    ports = json.loads(kubectl("get", "service", "web", "-o", "json").stdout)["spec"]["ports"]
    assert [(port["port"], port["name"]) for port in ports] == [(80, "a"), (443, "b")]
    kubectl.apply(json.dumps(service | {"spec": {"ports": [{"port": 8443, "name": "b"}]}}), "--field-manager=b")
    ports = json.loads(kubectl("get", "service", "web", "-o", "json").stdout)["spec"]["ports"]
    assert [port["port"] for port in ports] == [80, 8443]
