"""`penstock serve` as a person meets it: kubectl, errors at start, and the way it stops."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.system.support import Penstock, Reply, Request, broker, event, eventually, publishing, sink, trigger

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.system

SAMPLE = Path(__file__).parent.parent.parent / "samples/helloworld"


async def test_kubectl_and_the_sample(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()
    first = one.kubectl("apply", "-f", str(SAMPLE)).stdout.splitlines()
    assert [line.rpartition(" ")[2] for line in first] == ["created"] * 3
    second = one.kubectl("apply", "-f", str(SAMPLE)).stdout.splitlines()
    assert [line.rpartition(" ")[2] for line in second] == ["unchanged"] * 3
    one.wait_ready("broker/default", "trigger/helloworld")
    columns, row = one.kubectl("get", "broker").stdout.splitlines()
    assert columns.split() == ["NAME", "URL", "AGE", "READY", "REASON"]
    assert row.split()[:2] == ["default", f"{one.url}/default/default"]
    assert row.split()[3] == "True"
    described = one.kubectl("describe", "trigger", "helloworld").stdout
    assert "Subscriber Uri:" in described
    assert "dev.knative.samples.helloworld" in described
    deleted = one.kubectl("delete", "-f", str(SAMPLE)).stdout
    assert deleted.count("deleted") == 3
    async with publishing(one.port) as publisher:
        await eventually(lambda: one.kubectl("get", "broker").stdout == "", "the Broker is gone")
        assert await publisher.post("/default/default", event("e")) == 404


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a bad attribute name": (
        {"filters": [{"exact": {"Type": "x"}}]},
        'invalid key name "Type": spec.filters[0].exact[Type]',
    ),
    "CESQL": ({"filters": [{"cesql": "type = "}]}, "found the end after =, expected an attribute"),
    "a bad duration": ({"delivery": {"backoffDelay": "5s"}}, "spec.delivery.backoffDelay"),
    "an unknown policy": ({"delivery": {"backoffPolicy": "random"}}, "spec.delivery.backoffPolicy"),
}


async def test_a_wrong_trigger_is_refused_with_the_field(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()
    one.apply(broker())
    for title, (spec, words) in WRONG.items():
        wrong = json.dumps(trigger("wrong", "http://127.0.0.1:1", **spec))
        refused = one.kubectl("apply", "-f", "-", stdin=wrong, check=False)
        assert refused.returncode == 1, title
        assert words in refused.stderr, title
    assert one.kubectl("get", "triggers").stdout == ""


async def test_a_change_takes_effect_within_a_second(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()
    async with sink() as subscriber, publishing(one.port) as publisher:
        one.apply(broker(), trigger("t", f"{subscriber.url}/a"))
        one.wait_ready("trigger/t")
        one.apply(trigger("t", f"{subscriber.url}/b"))
        await eventually(lambda: _current(one), "the data plane has loaded the change", within=1.0)
        assert await publisher.post("/default/default", event("e1")) == 202
        await eventually(lambda: subscriber.requests, "the event is delivered")
        assert subscriber.ids("/b") == ["e1"]
        one.kubectl("delete", "trigger", "t")
        assert await publisher.post("/default/default", event("e2")) == 202
        one.apply(trigger("other", f"{subscriber.url}/other", filter={"attributes": {"type": "none"}}))
        one.wait_ready("trigger/other")
        assert len(subscriber.requests) == 1


def _current(one: Penstock) -> bool:
    shown = one.kubectl(
        "get",
        "trigger",
        "t",
        "-o",
        "jsonpath={.metadata.generation} {.status.observedGeneration} {.status.subscriberUri}",
    ).stdout.split()
    ready = one.kubectl("get", "trigger", "t", "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}').stdout
    return shown[0] == shown[1] and shown[2].endswith("/b") and ready == "True"


async def test_where_a_trigger_starts(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()
    async with sink() as subscriber, publishing(one.port) as publisher:
        one.apply(broker())
        one.wait_ready("broker/default")
        assert await publisher.post("/default/default", event("before")) == 202
        early = {"penstock.dev/start": "earliest"}
        one.apply(
            trigger("now", f"{subscriber.url}/now"),
            trigger("earliest", f"{subscriber.url}/earliest", annotations=early),
        )
        one.wait_ready("trigger/now", "trigger/earliest")
        assert await publisher.post("/default/default", event("after")) == 202
        await eventually(lambda: len(subscriber.requests) == 3, "three deliveries")
        assert subscriber.ids("/now") == ["after"]
        assert subscriber.ids("/earliest") == ["before", "after"]


async def test_a_held_trigger_is_owed_what_comes(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()
    reference = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "late"}}
    async with sink() as subscriber, publishing(one.port) as publisher:
        late = trigger("t", "")
        late["spec"]["subscriber"] = reference
        one.apply(broker(), late)
        one.wait_ready("broker/default")
        resolved = 'jsonpath={.status.conditions[?(@.type=="SubscriptionReady")].status}'
        await eventually(
            lambda: one.kubectl("get", "trigger", "t", "-o", resolved).stdout == "True", "its start is stored"
        )
        assert await publisher.post("/default/default", event("waiting")) == 202
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "late",
                "namespace": "default",
                "annotations": {"penstock.dev/local-url": subscriber.url},
            },
            "spec": {"selector": {"app": "late"}, "ports": [{"port": 80}]},
        }
        one.apply(service)
        one.wait_ready("trigger/t")
        await eventually(lambda: subscriber.ids() == ["waiting"], "what came while it was held is delivered")


async def test_sigterm_lets_deliveries_in_flight_settle(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()
    attempts: list[str] = []

    def slow(request: Request) -> Reply | None:
        attempts.append(request.id)
        return Reply() if len(attempts) > 1 else None

    async with sink(slow) as subscriber, publishing(one.port) as publisher:
        one.apply(broker(), trigger("t", subscriber.url, delivery={"timeout": "PT2S", "retry": 3}))
        one.wait_ready("trigger/t")
        assert await publisher.post("/default/default", event("e1")) == 202
        await eventually(lambda: attempts, "the first attempt is under way")
        publisher.close()
        assert await one.stop() == 0
        assert attempts == ["e1"]
        await one.start()
        await eventually(lambda: attempts == ["e1", "e1"], "what did not settle is sent again")


def _refused(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "broker", "serve", *args], capture_output=True, text=True, check=False)


async def test_a_second_process_on_the_same_data_says_who_holds_it(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()
    second = await asyncio.to_thread(
        _refused, "--data", str(one.data), "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"
    )
    assert second.returncode == 3
    assert str(one.pid) in second.stderr
    assert "--data" in second.stderr
    assert len(second.stderr.splitlines()) == 1


def test_a_port_in_use_is_one_line_with_the_fix(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = _refused("--data", str(tmp_path), "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "--listen" in done.stderr


def test_a_manifest_that_is_wrong_is_named(tmp_path: Path) -> None:
    manifest = tmp_path / "wrong.yaml"
    manifest.write_text("apiVersion: v1\nkind: Nonsense\nmetadata: {name: x}\n")
    done = _refused(
        "--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "-f", str(manifest)
    )
    assert done.returncode == 2
    assert "Nonsense" in done.stderr.splitlines()[-1]
    assert str(manifest) in done.stderr.splitlines()[-1]
