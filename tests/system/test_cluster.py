"""`penstock serve` outside a pod, joined to a real cluster: whom it serves, who leads, and the API server away."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.system.kube_cluster import KubeCluster, kube_cluster
from tests.system.support import Penstock, broker, event, eventually, publishing, sink, trigger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["kube_cluster"]

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]
CLASS = "eventing.knative.dev/broker.class"


class Joined:
    """Processes that joined the cluster, and a namespace of their own there."""

    def __init__(self, cluster: KubeCluster, namespace: str, directory: Path) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self._directory = directory
        self.made: list[Penstock] = []

    def process(self, name: str, *args: str, kubeconfig: Path | None = None) -> Penstock:
        """One that is not started yet, with a data directory of its own by its name."""
        joins = ("--kubeconfig", str(kubeconfig or self.cluster.kubeconfig))
        one = Penstock(self._directory / name, *joins, *args, env={"PENSTOCK_NAMESPACE": self.namespace})
        self.made.append(one)
        return one

    def apply(self, *manifests: dict[str, Any]) -> None:
        for one in manifests:
            one["metadata"]["namespace"] = self.namespace
        self.cluster.apply(*manifests)

    def wait_ready(self, *names: str) -> None:
        self.cluster.kubectl("wait", "-n", self.namespace, "--for=condition=Ready", "--timeout=30s", *names)

    def get(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.cluster.kubectl("get", "-n", self.namespace, name, "-o", "json").stdout)
        return found


@pytest.fixture
def joined(kube_cluster: KubeCluster, tmp_path: Path) -> Iterator[Joined]:
    with kube_cluster.namespace() as namespace:
        made = Joined(kube_cluster, namespace, tmp_path)
        yield made
        for one in made.made:
            one.close()


def ours() -> dict[str, Any]:
    made = broker()
    made["metadata"]["annotations"] = {CLASS: "Penstock"}
    return made


async def test_brokers_of_our_class_are_served_and_no_others(joined: Joined) -> None:
    one = joined.process("data")
    await one.start()
    async with sink() as subscriber, publishing(one.port) as publisher:
        other = broker("other")
        other["metadata"]["annotations"] = {CLASS: "MTChannelBasedBroker"}
        joined.apply(
            ours(),
            other,
            trigger("t", subscriber.url),
            trigger("not-ours", subscriber.url, broker="other"),
        )
        joined.wait_ready("broker/default", "trigger/t")
        assert joined.get("broker/default")["status"]["address"]["url"] == f"{one.url}/{joined.namespace}/default"
        assert await publisher.post(f"/{joined.namespace}/default", event("1"), b"\xff\x00") == 202
        assert await publisher.post(f"/{joined.namespace}/other", event("2")) == 404
        await eventually(lambda: subscriber.ids() == ["1"], "the event is delivered")
        assert subscriber.requests[0].body == b"\xff\x00"
        assert "status" not in joined.get("broker/other")
        assert "status" not in joined.get("trigger/not-ours")
        assert await one.stop() == 0


async def test_destinations_are_those_of_the_cluster(joined: Joined) -> None:
    """A Service is called by its DNS name, and a kind that Penstock does not know by the address in its status."""
    one = joined.process("data")
    await one.start()
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hello"}, "spec": {"ports": [{"port": 80}]}}
    by_service, by_broker = trigger("by-service", ""), trigger("by-broker", "")
    by_service["spec"]["subscriber"] = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "hello"}}
    ref = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}
    by_broker["spec"]["subscriber"] = {"ref": ref, "uri": "/extra"}
    joined.apply(ours(), service, by_service, by_broker)
    joined.wait_ready("trigger/by-service", "trigger/by-broker")
    uri = f"http://hello.{joined.namespace}.svc.cluster.local"
    assert joined.get("trigger/by-service")["status"]["subscriberUri"] == uri
    assert joined.get("trigger/by-broker")["status"]["subscriberUri"] == f"{one.url}/extra"


async def test_events_flow_while_the_api_server_is_away(joined: Joined) -> None:
    """Also through a process that is started meanwhile: it goes by the last routes that it knew."""
    one = joined.process("data")
    await one.start()
    async with sink() as subscriber, publishing(one.port) as publisher:
        joined.apply(ours(), trigger("t", subscriber.url))
        joined.wait_ready("broker/default", "trigger/t")
        path = f"/{joined.namespace}/default"
        cache = one.data / "routes.json"
        await eventually(lambda: subscriber.url.encode() in _content(cache), "the routes are cached")
        one.kill()
        nowhere = one.data.parent / "nowhere"
        text = joined.cluster.kubeconfig.read_text()
        nowhere.write_text(re.sub(r"https://[\d.]+:\d+", "https://127.0.0.1:1", text))
        without = joined.process("data", kubeconfig=nowhere)
        await without.start()
        async with publishing(without.port) as late:
            assert await late.post(path, event("1")) == 202
            await eventually(lambda: subscriber.ids() == ["1"], "the event is delivered")
        without.kill()
        again = joined.process("data")
        await again.start()
        publisher.close()
        async with publishing(again.port) as later:
            assert await later.post(path, event("2")) == 202
            await eventually(lambda: "2" in subscriber.ids(), "the event is delivered")


def _content(file: Path) -> bytes:
    return file.read_bytes() if file.exists() else b""


async def test_another_controller_goes_on_when_the_leader_is_killed(joined: Joined) -> None:
    first, second = joined.process("first"), joined.process("second")
    await first.start()
    await eventually(lambda: "this process leads" in first.log.read_text(), "the first one leads")
    await second.start()
    joined.apply(ours())
    joined.wait_ready("broker/default")
    assert joined.get("broker/default")["status"]["address"]["url"].startswith(first.url)
    assert "this process leads" not in second.log.read_text()
    first.kill()
    await eventually(lambda: "this process leads" in second.log.read_text(), "the second one leads", 25)
    await eventually(
        lambda: joined.get("broker/default")["status"]["address"]["url"].startswith(second.url), "it sets the status"
    )
