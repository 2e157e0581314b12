"""A real Kubernetes API server for tests that compare: etcd and kube-apiserver on loopback, without nodes or controllers.

The binary is that of `../shared/cluster`, whose cluster may run beside it: this one has ports, certificates and a
directory of its own. Import `real_api` into a test module to use it; it starts once a session and stops at its end.
"""

from __future__ import annotations

import lzma
import os
import shutil
import socket
import ssl
import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import trustme

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "cluster"
CACHE = Path(os.environ.get("CLUSTER_CACHE") or Path.home() / ".cache" / "penstock-cluster")
TOKEN = "of-the-tests"
START_SECONDS = 90
STOP_SECONDS = 20
ANSWER_SECONDS = 60


@dataclass(frozen=True, slots=True)
class RealApi:
    """Where the server is, and how to be its administrator."""

    url: str
    ca: Path
    kubeconfig: Path

    def client(self) -> httpx.AsyncClient:
        """An HTTP client that may do everything."""
        headers = {"authorization": f"Bearer {TOKEN}"}
        return httpx.AsyncClient(base_url=self.url, verify=self._tls(), headers=headers, timeout=ANSWER_SECONDS)

    def ready(self) -> bool:
        with httpx.Client(verify=self._tls(), headers={"authorization": f"Bearer {TOKEN}"}) as client:
            try:
                # The namespace `default` is made by the server itself, a moment after it is ready.
                return all(
                    client.get(f"{self.url}{path}").status_code == 200
                    for path in ("/readyz", "/api/v1/namespaces/default")
                )
            except httpx.TransportError:
                return False

    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))


@pytest.fixture(scope="session")
def real_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealApi]:
    kube = kube_binary()
    missing = [name for name, found in (("kube", kube), ("etcd", shutil.which("etcd"))) if not found]
    if missing:
        pytest.skip(f"no {' and no '.join(missing)}: `../shared/cluster/cluster up` installs both")
    with running(str(kube), tmp_path_factory.mktemp("real-api")) as api:
        yield api


def kube_binary() -> Path | None:
    """Kubernetes in one binary: from the cache of the cluster script, or unpacked into it as the script would."""
    cached, packed = CACHE / "bin" / "kube", SHARED / "bin" / "kube.xz"
    if not cached.exists() and packed.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        unpacked = cached.with_name(f"kube.{os.getpid()}")
        with lzma.open(packed) as source, unpacked.open("wb") as target:
            shutil.copyfileobj(source, target)
        unpacked.chmod(0o755)
        unpacked.rename(cached)
    return cached if cached.exists() else None


@contextmanager
def running(kube: str, directory: Path) -> Generator[RealApi, None, None]:
    """The server with an empty store in `directory`. Raises RuntimeError if it does not come up."""
    clients, peers, secure = free_ports(3)
    api = RealApi(f"https://127.0.0.1:{secure}", directory / "ca.pem", directory / "kubeconfig")
    write_files(api, directory)
    with ExitStack() as stack:
        etcd = f"http://127.0.0.1:{clients}"
        peer = f"http://127.0.0.1:{peers}"
        listening = [f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}"]
        cluster = [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        cluster += [f"--initial-cluster=default={peer}", "--unsafe-no-fsync", "--log-level=error"]
        started = [
            stack.enter_context(process(directory, "etcd", [f"--data-dir={directory / 'etcd'}", *listening, *cluster]))
        ]
        options = [
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={secure}",
            f"--tls-cert-file={directory / 'server.pem'}",
            f"--tls-private-key-file={directory / 'server.key'}",
            f"--token-auth-file={directory / 'tokens'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={directory / 'server.key'}",
            f"--service-account-signing-key-file={directory / 'server.key'}",
            "--service-cluster-ip-range=10.97.0.0/16",
            "--disable-admission-plugins=ServiceAccount",
            "--profiling=false",
        ]
        started.append(stack.enter_context(process(directory, kube, options)))
        wait_until_ready(api, started, directory)
        yield api


def write_files(api: RealApi, directory: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(api.ca)
    certificate.cert_chain_pems[0].write_to_path(directory / "server.pem")
    certificate.private_key_pem.write_to_path(directory / "server.key")
    (directory / "tokens").write_text(f'{TOKEN},admin,1,"system:masters"\n')
    api.kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\n"
        f"clusters: [{{name: c, cluster: {{server: '{api.url}', certificate-authority: '{api.ca}'}}}}]\n"
        f"users: [{{name: u, user: {{token: {TOKEN}}}}}]\n"
        "contexts: [{name: x, context: {cluster: c, user: u}}]\n"
    )


@contextmanager
def process(directory: Path, command: str, options: Sequence[str]) -> Generator[subprocess.Popen[bytes], None, None]:
    """A process that is gone when the block ends; its output is in `directory`."""
    with (directory / f"{Path(command).name}.log").open("wb") as log:
        started = subprocess.Popen([command, *options], stdout=log, stderr=log)
        try:
            yield started
        finally:
            started.terminate()
            try:
                started.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


def wait_until_ready(api: RealApi, started: Sequence[subprocess.Popen[bytes]], directory: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not api.ready():
        if time.monotonic() > deadline or any(each.poll() is not None for each in started):
            logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in directory.glob("*.log"))
            raise RuntimeError(f"the API server did not come up:\n{logs}")
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listened on a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
