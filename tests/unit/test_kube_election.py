"""Who leads: one at a time, the next one when the holder is gone, nobody whose Lease ran out."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from controller.kube.client import KubeClient
from controller.kube.config import KubeConfig
from controller.kube.election import Candidate, Election, Terms

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

TERMS = Terms(lease=15, renew=10, retry=0.001)


@dataclass
class Server:
    """Keeps one Lease as an API server does: a PUT of an old version is a conflict. `down` answers nobody."""

    lease: dict[str, Any] | None = None
    version: int = 0
    down: bool = False
    requests: int = 0

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        if self.down:
            return httpx.Response(503)
        if request.method == "GET":
            return httpx.Response(200, json=self.lease) if self.lease else httpx.Response(404)
        sent = json.loads(request.content)
        if request.method == "POST" and self.lease is not None:
            return httpx.Response(409, json={"kind": "Status", "reason": "AlreadyExists"})
        if request.method == "PUT" and sent["metadata"].get("resourceVersion") != str(self.version):
            return httpx.Response(409, json={"kind": "Status", "reason": "Conflict"})
        self.version += 1
        sent["metadata"]["resourceVersion"] = str(self.version)
        self.lease = sent
        return httpx.Response(200, json=sent)

    @property
    def spec(self) -> dict[str, Any]:
        assert self.lease is not None
        spec: dict[str, Any] = self.lease["spec"]
        return spec


@dataclass
class Member:
    """One process: whether it leads, and its clock."""

    leads: bool = False
    history: list[bool] = field(default_factory=list)
    now: float = 1000.0

    def lead(self, leads: bool) -> None:
        self.leads = leads
        self.history.append(leads)


@contextlib.asynccontextmanager
async def taking_part(server: Server, name: str) -> AsyncIterator[Member]:
    member = Member()
    async with KubeClient(KubeConfig(server="http://k"), httpx.MockTransport(server.answer)) as kube:
        election = Election(kube, Candidate("ns", "l", name), member.lead, TERMS, lambda: member.now)
        task = asyncio.create_task(election.run())
        try:
            yield member
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in the elections' tasks
            await asyncio.sleep(0.001)


async def asked(server: Server) -> None:
    """Let everybody look at the Lease a few times."""
    before = server.requests
    await until(lambda: server.requests >= before + 6)


async def rounds(server: Server, member: Member) -> None:
    """Let the holder renew a few times."""
    before = server.version
    await until(lambda: server.version >= before + 3)
    assert member.leads


async def test_the_first_leads_and_the_second_waits() -> None:
    server = Server()
    async with taking_part(server, "a") as a:
        await until(lambda: a.leads)
        async with taking_part(server, "b") as b:
            b.now = 5.0
            await rounds(server, a)
            # The clocks of two machines need not agree: what counts is that the Lease goes on changing.
            b.now += 1000
            await rounds(server, a)
            assert not b.history
    assert server.spec["leaseTransitions"] == 0


async def test_a_lease_that_is_given_back_is_taken_at_once() -> None:
    server = Server()
    async with contextlib.AsyncExitStack() as stack:
        a = await stack.enter_async_context(taking_part(server, "a"))
        await until(lambda: a.leads)
        async with taking_part(server, "b") as b:
            await asked(server)
            await stack.aclose()
            assert not a.leads
            await until(lambda: b.leads)
    assert server.spec["holderIdentity"] == ""


async def test_the_lease_of_one_who_is_gone_is_taken_when_it_has_run_out() -> None:
    server = Server(
        {
            "metadata": {"name": "l", "namespace": "ns", "resourceVersion": "0"},
            "spec": {"holderIdentity": "gone", "leaseDurationSeconds": 15, "renewTime": "x", "leaseTransitions": 4},
        }
    )
    async with taking_part(server, "a") as a:
        await asked(server)
        a.now += 14.9
        await asked(server)
        assert not a.leads
        a.now += 0.2
        await until(lambda: a.leads)
    assert server.spec["leaseTransitions"] == 5


async def test_who_cannot_renew_stops_leading_before_anybody_may_take_the_lease() -> None:
    server = Server()
    async with taking_part(server, "a") as a:
        await until(lambda: a.leads)
        server.down = True
        a.now += 9
        await asked(server)
        assert a.leads
        a.now += 1.1
        await until(lambda: not a.leads)
        server.down = False
        await until(lambda: a.leads)
