"""A real Kubernetes cluster with pods for tests. Import `kube_cluster` into a module to use it; it starts once a session."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
UP_SECONDS = 600


@dataclass(frozen=True)
class KubeCluster:
    """Where the cluster is, and how to be its administrator."""

    kubeconfig: Path

    def kubectl(self, *args: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """The real kubectl; `check` fails the test with what it said."""
        env = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        done = subprocess.run(
            ["kubectl", *args], input=stdin, capture_output=True, text=True, env=env, check=False, timeout=90
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        """Kubectl apply these objects."""
        self.kubectl("apply", "-f", "-", stdin="\n".join(json.dumps(one) for one in manifests))

    @contextmanager
    def namespace(self) -> Iterator[str]:
        """A namespace of a name that nobody else has, and its end."""
        name = f"test-{uuid.uuid4().hex[:8]}"
        self.kubectl("create", "namespace", name)
        try:
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def kube_cluster() -> Iterator[KubeCluster]:
    """The cluster of `scripts/servers kube`, with our CRDs. It stays up where PENSTOCK_KEEP_SERVERS is set: that saves 12 s."""
    script = [str(ROOT / "scripts" / "servers"), "kube"]
    done = subprocess.run([*script, "up"], capture_output=True, text=True, check=False, timeout=UP_SECONDS)
    if done.returncode != 0:
        if os.environ.get("CI"):
            pytest.fail(f"scripts/servers kube up: {done.stderr[-2000:]}")
        pytest.skip("no cluster here, see scripts/servers kube up")
    cluster = KubeCluster(Path(done.stdout.splitlines()[-1]))
    try:
        cluster.kubectl("apply", "-k", str(ROOT / "deploy" / "crds"))
        kinds = [f"crd/{plural}.eventing.knative.dev" for plural in ("brokers", "triggers")]
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", *kinds)
        yield cluster
    finally:
        if not os.environ.get("PENSTOCK_KEEP_SERVERS"):
            subprocess.run([*script, "down"], capture_output=True, check=False, timeout=UP_SECONDS)
