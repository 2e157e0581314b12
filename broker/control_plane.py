"""The Kubernetes API that a process works with: its own, in the same process, or one that it joins."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from broker.errors import UsageError
from broker.http_server import serving
from broker.manifests import Manifests
from broker.settings import OBJECTS, ROUTES, Role
from controller.cache import ObjectCache
from controller.embedded.kubeconfig import kubeconfig_text
from controller.embedded.routes import embedded_api
from controller.embedded.store import open_store
from controller.kube.client import KubeClient
from controller.kube.config import KubeConfig, load_kubeconfig, load_pod_config
from controller.kube.election import Candidate
from controller.kube.errors import ApiUnavailable, KubeconfigError, KubeError
from controller.objects.kind import Kind
from controller.objects.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from broker.dead_letters import DeadLetters
    from broker.settings import Settings

log = structlog.get_logger()

NAMESPACE: Final = Kind("", "v1", "Namespace", "namespaces", "namespace", namespaced=False, custom=False)
LEASE: Final = "penstock-controller"
OURS: Final = "+penstock"
"""What the version of an API server that is ours ends with."""

ASK_AGAIN: Final = 2.0
"""Seconds until an API server that does not answer is asked again who it is."""


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """`cluster` says whether pods and other Broker classes are there, `roles` what this process does.

    `cache` is None where the API is in this process, `candidate` where nobody else can lead. `home` says whose Brokers these
    are, as `ChannelSettings.home` has it.
    """

    kube: KubeClient
    cluster: bool
    roles: frozenset[Role]
    cache: ObjectCache | None = None
    candidate: Candidate | None = None
    home: str | None = ""


def config_to_join(settings: Settings) -> KubeConfig | None:
    """The API server to join, None where this process serves its own. Raises UsageError."""
    try:
        return load_kubeconfig(settings.kubeconfig) if settings.kubeconfig is not None else load_pod_config()
    except KubeconfigError as error:
        raise UsageError(f"--kubeconfig: {error}") from error


@contextlib.asynccontextmanager
async def own(settings: Settings, dead_letters: DeadLetters, sock: socket.socket) -> AsyncIterator[ControlPlane]:
    """The Kubernetes API in this process."""
    if settings.roles and settings.roles != frozenset(Role):
        raise UsageError("--role: with an API of its own a process has every role; name another's with --kubeconfig")
    url = f"http://{settings.api}"
    async with open_store(settings.data / OBJECTS) as store:
        app = embedded_api(KINDS, store, {"deadletters.penstock.dev": dead_letters})
        async with serving(app, sock):
            kubeconfig = settings.data / "kubeconfig"
            kubeconfig.write_text(kubeconfig_text(url))
            kubeconfig.chmod(0o600)
            async with KubeClient(KubeConfig(server=url)) as kube:
                await Manifests(kube, KINDS).apply(settings.manifests)
                try:
                    yield ControlPlane(kube, cluster=False, roles=frozenset(Role))
                finally:
                    # A server waits for its open answers, and a watch has no end of its own.
                    app.end_watches()


@contextlib.asynccontextmanager
async def joined(settings: Settings, config: KubeConfig) -> AsyncIterator[ControlPlane]:
    """Another's Kubernetes API: a cluster's, or that of another `penstock serve`. Raises UsageError."""
    settings.data.mkdir(parents=True, exist_ok=True)
    cache = ObjectCache(settings.data / ROUTES)
    try:
        async with KubeClient(config) as kube:
            version = await _ask(kube, cache)
            cluster = not version.endswith(OURS)
            roles = _roles(settings.roles, cluster=cluster)
            await Manifests(kube, KINDS).apply(settings.manifests)
            candidate = None
            if Role.CONTROLLER in roles:
                candidate = Candidate(settings.namespace or config.namespace, LEASE, _identity())
            log.info("joined", api=config.server, version=version, roles=",".join(sorted(roles)))
            yield ControlPlane(kube, cluster, roles, cache, candidate, cache.home if candidate is not None else None)
    except KubeconfigError as error:
        raise UsageError(f"--kubeconfig: {error}") from error


async def _ask(kube: KubeClient, cache: ObjectCache) -> str:
    """The version of the server, and in `cache` the id of its cluster; while it is away, what it said when routes were cached."""
    told = False
    while True:
        try:
            cache.server = await kube.version()
            if not cache.server.endswith(OURS):
                # The id of a cluster, as everybody has it who needs one.
                cache.home = (await kube.get(NAMESPACE, "", "kube-system"))["metadata"]["uid"]
        except ApiUnavailable as error:
            if cache.server:
                return cache.server
            if not told:
                log.warning("the API server does not answer; trying again", api=kube.config.server, error=str(error))
                told = True
            await asyncio.sleep(ASK_AGAIN)
        except KubeError as error:
            raise UsageError(f"--kubeconfig: {kube.config.server} refuses to say who it is: {error}") from error
        else:
            return cache.server


def _roles(asked: frozenset[Role], *, cluster: bool) -> frozenset[Role]:
    if cluster:
        return asked or frozenset(Role)
    if Role.CONTROLLER in asked:
        raise UsageError(
            "--role controller: that API server is another `penstock serve`, which is its controller; "
            "use ingress or dispatcher"
        )
    return asked or frozenset({Role.INGRESS, Role.DISPATCHER})


def _identity() -> str:
    """A name for people, and what tells two processes of one host apart."""
    return f"{os.environ.get('HOSTNAME') or socket.gethostname()}_{uuid.uuid4().hex[:8]}"
