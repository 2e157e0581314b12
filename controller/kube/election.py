"""Which of several processes leads, decided by a Lease as Kubernetes' own controllers do it.

The holder renews its Lease; the others watch how it changes, and take it when it has not changed for as long as it was
meant to last, by their own clock: those of two machines need not agree. A holder that could not renew in time stops
leading before anybody may take the Lease.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import structlog

from controller.kube.errors import AlreadyExists, Conflict, KubeError, NotFound
from controller.objects.kind import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from controller.kube.client import KubeClient
    from controller.objects.kind import JsonObject

log = structlog.get_logger()

LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases", "lease", custom=False)


@dataclass(frozen=True, slots=True)
class Terms:
    """Times in seconds: a Lease lasts `lease`, is renewed every `retry`, and given up when that failed for `renew`."""

    lease: float = 15.0
    renew: float = 10.0
    retry: float = 2.0


class Candidate(NamedTuple):
    """Who takes part, and the Lease that stands for the election. Two processes never have the same identity."""

    namespace: str
    lease: str
    identity: str


TERMS = Terms()


class Election:
    """Takes part in an election. `lead(leads)` is told when that begins or ends.

    `run` goes on until cancelled; it then gives the Lease back, so that nobody has to wait for its end.
    """

    def __init__(
        self,
        kube: KubeClient,
        candidate: Candidate,
        lead: Callable[[bool], None],
        terms: Terms = TERMS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._namespace, self._name, self._identity = candidate
        self._lead = lead
        self._terms = terms
        self._clock = clock
        self._leads = False
        self._renewed = 0.0
        self._seen: JsonObject = {}
        self._seen_at = 0.0
        self._trouble = ""

    async def run(self) -> NoReturn:
        """Take part until cancelled."""
        try:
            while True:
                await self._round()
                await asyncio.sleep(self._terms.retry)
        finally:
            if self._leads:
                self._become(leads=False)
                await self._give_back()

    async def _round(self) -> None:
        began = self._clock()
        try:
            # A renewal that hangs must not outlast the Lease.
            async with asyncio.timeout(self._terms.renew):
                holds = await self._take_or_renew(began)
        except (KubeError, TimeoutError) as error:
            self._tell_trouble(str(error) or "the API server does not answer in time")
            if self._leads and self._clock() - self._renewed >= self._terms.renew:
                self._become(leads=False)
            return
        self._trouble = ""
        if holds:
            # From before the request: the server counts from when it got it, which is later.
            self._renewed = began
        self._become(leads=holds)

    async def _take_or_renew(self, now: float) -> bool:
        """Whether this process holds the Lease after this. Raises KubeError."""
        try:
            lease = await self._kube.get(LEASE, self._namespace, self._name)
        except NotFound:
            return await self._make()
        spec = lease.get("spec") or {}
        if _holding(spec) != _holding(self._seen):
            self._seen, self._seen_at = spec, now
        holder = str(spec.get("holderIdentity") or "")
        if holder not in ("", self._identity) and now < self._seen_at + float(spec.get("leaseDurationSeconds") or 0):
            return False
        transitions = int(spec.get("leaseTransitions") or 0) + (holder != self._identity)
        lease["spec"] = self._spec(spec, transitions)
        try:
            written = await self._kube.replace(LEASE, lease)
        except Conflict:
            return False
        self._seen, self._seen_at = written.get("spec") or {}, now
        return True

    async def _make(self) -> bool:
        metadata = {"name": self._name, "namespace": self._namespace}
        lease = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": self._spec({}, 0)}
        try:
            await self._kube.create(LEASE, lease)
        except AlreadyExists:
            return False
        return True

    def _spec(self, before: Mapping[str, Any], transitions: int) -> JsonObject:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        mine = before.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": round(self._terms.lease),
            "acquireTime": before.get("acquireTime", now) if mine else now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }

    async def _give_back(self) -> None:
        try:
            async with asyncio.timeout(self._terms.retry):
                lease = await self._kube.get(LEASE, self._namespace, self._name)
                spec = lease.get("spec") or {}
                if spec.get("holderIdentity") == self._identity:
                    lease["spec"] = {**self._spec(spec, int(spec.get("leaseTransitions") or 0)), "holderIdentity": ""}
                    await self._kube.replace(LEASE, lease)
        except (KubeError, TimeoutError) as error:
            log.warning(
                "the lease could not be given back: another process leads when it has run out", error=str(error)
            )

    def _become(self, *, leads: bool) -> None:
        if leads != self._leads:
            self._leads = leads
            log.info("this process leads" if leads else "this process follows", lease=f"{self._namespace}/{self._name}")
            self._lead(leads)

    def _tell_trouble(self, trouble: str) -> None:
        # One line for each trouble, however long it lasts.
        if trouble != self._trouble:
            self._trouble = trouble
            log.warning("the lease cannot be renewed; trying again", error=trouble)


def _holding(spec: Mapping[str, Any]) -> tuple[object, object]:
    return spec.get("holderIdentity"), spec.get("renewTime")
