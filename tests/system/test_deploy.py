"""Penstock in pods: what `deploy/` has is accepted by a real API server, runs, and needs no more rights than it asks for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from tests.system import image
from tests.system.kube_cluster import ROOT, KubeCluster, kube_cluster
from tests.system.support import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["kube_cluster"]

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "penstock"
OVERLAYS = ("sqlite", "nats", "kafka")
SYSTEM = "penstock-system"
URLS = {
    "nats": "nats://nats.nats.svc.cluster.local:4222?replicas=1",
    "kafka": "kafka://kafka.kafka.svc.cluster.local:9092",
}


def documents(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The objects in a YAML stream, by kind and name (a generated name without its hash)."""
    found = {}
    for one in YAML(typ="safe").load_all(text):
        if one:
            name = one["metadata"]["name"]
            found[one["kind"], "penstock-channel" if name.startswith("penstock-channel") else name] = one
    return found


def kustomized(overlay: str) -> str:
    command = ["kubectl", "kustomize", str(DEPLOY / "overlays" / overlay)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def helm() -> str:
    """The program: that of the test cluster's cache where it is not on the PATH."""
    cached = Path.home() / ".cache" / "penstock-cluster" / "bin" / "helm"
    found = shutil.which("helm") or (str(cached) if cached.exists() else None)
    if found is None:
        pytest.skip("helm is not on the PATH")
    return found


def templated(overlay: str) -> str:
    """What the chart makes for the same installation as an overlay."""
    command = [helm(), "template", "penstock", str(CHART), "-n", SYSTEM, "--kube-version", "1.33"]
    command += ["--set-string", "image.tag=1"]
    if overlay in URLS:
        command += ["--set", f"mode=shared,channel.url={URLS[overlay]}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def comparable(one: dict[str, Any]) -> dict[str, Any]:
    """An object without what the two tools write each in their own way: namespace, labels, names of generated Secrets."""
    text = json.dumps({**one, "metadata": {}})
    if one["kind"] == "Secret":
        return {}
    name = one["metadata"]["name"]
    made: dict[str, Any] = json.loads(text.replace(name, "NAME") if name.startswith("penstock-channel") else text)
    template = made.get("spec", {}).get("template") if isinstance(made.get("spec"), dict) else None
    if template is not None:
        template["metadata"].pop("annotations", None)
        template["metadata"]["labels"].pop("app.kubernetes.io/part-of", None)
        for container in template["spec"]["containers"]:
            container.pop("imagePullPolicy", None)
            for variable in container["env"]:
                if "valueFrom" in variable:
                    variable["valueFrom"]["secretKeyRef"]["name"] = "penstock-channel"
    return made


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_chart_makes_what_the_overlay_makes(overlay: str, kube_cluster: KubeCluster) -> None:  # noqa: ARG001 - it brings helm, and is found by its name
    by_kustomize, by_helm = documents(kustomized(overlay)), documents(templated(overlay))
    assert by_kustomize.keys() - by_helm.keys() == {("Namespace", SYSTEM)}
    assert not by_helm.keys() - by_kustomize.keys()
    for key, one in by_helm.items():
        assert comparable(one) == comparable(by_kustomize[key]), key


@pytest.fixture
def system(kube_cluster: KubeCluster) -> Iterator[KubeCluster]:
    """The cluster with Penstock's namespace, without Penstock; afterwards without both."""
    kube_cluster.kubectl("apply", "-f", str(DEPLOY / "base" / "namespace.yaml"))
    try:
        yield kube_cluster
    finally:
        for overlay in ("sqlite", "nats"):
            kube_cluster.kubectl(
                "delete", "-k", str(DEPLOY / "overlays" / overlay), "--ignore-not-found", "--wait=false", check=False
            )
        kube_cluster.kubectl("wait", "--for=delete", f"namespace/{SYSTEM}", "--timeout=60s", check=False)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_server_accepts_every_field(overlay: str, system: KubeCluster) -> None:
    system.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=kustomized(overlay))
    system.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=templated(overlay))


@pytest.fixture
def installed(system: KubeCluster, tmp_path: Path) -> KubeCluster:
    """Penstock with SQLite in a pod of its own, with a volume, as `kubectl apply -k` installs it."""
    if sys.version_info[:2] != image.PYTHON:
        pytest.skip("the image's packages are installed by a Python of the image's version")
    packed = image.make_image(tmp_path)
    subprocess.run([image.CLUSTER / "cluster", "load", packed], check=True, capture_output=True)
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    for parent in volume.parents:
        # Folders of pytest are for their owner only, and the pod has another user.
        if parent.stat().st_uid == 0 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    system.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "penstock-test"},
            "spec": {
                "capacity": {"storage": "12Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Delete",
                "claimRef": {"namespace": SYSTEM, "name": "data-penstock-0"},
                "hostPath": {"path": str(volume)},
            },
        }
    )
    system.kubectl("apply", "-k", str(DEPLOY / "overlays" / "sqlite"))
    return system


def test_hello_world_in_pods(installed: KubeCluster) -> None:
    """The walk-through of samples/helloworld, by DNS names, with the rights that deploy/ grants."""
    cluster = installed
    try:
        done = cluster.kubectl("rollout", "status", "-n", SYSTEM, "statefulset/penstock", "--timeout=80s", check=False)
        assert done.returncode == 0, _why(cluster)
        app = (ROOT / "samples" / "helloworld" / "app.py").read_text()
        cluster.apply(*_hello_pod(app))
        cluster.kubectl("apply", "-f", str(ROOT / "samples" / "helloworld"))
        cluster.kubectl(
            "wait", "--for=condition=Ready", "--timeout=60s", "pod/helloworld", "broker/default", "trigger/helloworld"
        )
        address = json.loads(cluster.kubectl("get", "broker", "default", "-o", "json").stdout)["status"]["address"][
            "url"
        ]
        assert address == f"http://penstock-ingress.{SYSTEM}.svc.cluster.local/default/default"
        assert "accepted" in _send(cluster, address, "Hi")
        assert "accepted" in _send(cluster, "http://default-broker.default.svc.cluster.local", "Hi again")
        log = _until_logged(cluster, "{'msg': 'Hi again'}")
        assert "of type dev.knative.samples.helloworld: {'msg': 'Hi'}" in log
        assert "Hello, Knative!" in log
    finally:
        cluster.kubectl("delete", "-f", str(ROOT / "samples" / "helloworld"), "--ignore-not-found", "--wait=false")
        cluster.kubectl(
            *("delete", "pod/helloworld", "configmap/helloworld", "pv/penstock-test"),
            *("--ignore-not-found", "--wait=false", "--grace-period=1"),
        )


def _hello_pod(app: str) -> list[dict[str, Any]]:
    """The sample's service in a pod; the image of Penstock has all that it imports."""
    container = {
        "name": "app",
        "image": image.NAME,
        "imagePullPolicy": "Never",
        "command": ["python3.11", "/app/app.py"],
        "env": [{"name": "HOST", "value": "0.0.0.0"}, {"name": "PYTHONUNBUFFERED", "value": "1"}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8090}, "periodSeconds": 1},
        "volumeMounts": [{"name": "app", "mountPath": "/app"}],
    }
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "helloworld"}, "data": {"app.py": app}},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "helloworld", "labels": {"app": "helloworld"}},
            "spec": {"containers": [container], "volumes": [{"name": "app", "configMap": {"name": "helloworld"}}]},
        },
    ]


def _send(cluster: KubeCluster, url: str, words: str) -> str:
    """Send an event from a pod; what the command printed."""
    return cluster.kubectl(
        *(
            "run",
            "send",
            "--restart=Never",
            f"--image={image.NAME}",
            "--image-pull-policy=Never",
            "-i",
            "--quiet",
            "--rm",
        ),
        *("--command", "--", "python3.11", "-m", "broker", "send", url, "--type", "dev.knative.samples.helloworld"),
        *("--json", json.dumps({"msg": words})),
    ).stdout


def _until_logged(cluster: KubeCluster, words: str) -> str:
    import asyncio  # noqa: PLC0415 - only for the wait

    text = ""

    def logged() -> bool:
        nonlocal text
        text = cluster.kubectl("logs", "pod/helloworld").stdout
        return words in text

    asyncio.run(eventually(logged, f"the service logs {words}", 30))
    return text


def _why(cluster: KubeCluster) -> str:
    described = cluster.kubectl("describe", "pod", "-n", SYSTEM).stdout
    logs = cluster.kubectl("logs", "-n", SYSTEM, "penstock-0", check=False)
    return f"{described[-3000:]}\n{logs.stdout[-2000:]}{logs.stderr[-500:]}"
