"""A Broker's status and route."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.reconcile.broker import BrokerFacts, BrokerPlan, ChannelState, is_ours, reconcile_broker
from controller.reconcile.world import Objects
from eventing.routing import BrokerRoute, ObjectName, Retention

NOW = "2026-01-01T00:00:00Z"
FACTS = BrokerFacts("http://127.0.0.1:8080", ChannelState(ok=True))
CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "name": "c"}


def a_broker(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "b", "namespace": "ns", "uid": "u", "generation": 3, "annotations": annotations or {}}
    return {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": metadata, "spec": spec}


def a_config(**data: str) -> dict[str, Any]:
    named = {name.replace("_", "."): value for name, value in data.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "ns"}, "data": named}


def condition(status: dict[str, Any], name: str) -> tuple[str, str, str]:
    """Status, reason and message of a condition."""
    one = next(one for one in status["conditions"] if one["type"] == name)
    return one["status"], one.get("reason", ""), one.get("message", "")


def test_ready_broker() -> None:
    """A Broker whose channel is usable is Ready and has an address."""
    plan = reconcile_broker(a_broker(), Objects([]), FACTS, now=NOW)
    assert plan.status["address"] == {"name": "http", "url": "http://127.0.0.1:8080/ns/b"}
    assert plan.status["observedGeneration"] == 3
    assert [one["type"] for one in plan.status["conditions"]] == [
        "Addressable",
        "ChannelReady",
        "ConfigParsed",
        "DeadLetterSinkResolved",
        "EventPoliciesReady",
        "Ready",
    ]
    assert condition(plan.status, "Ready") == ("True", "", "")
    assert condition(plan.status, "EventPoliciesReady")[1] == "OIDCDisabled"
    assert plan.route == BrokerRoute("u", ObjectName("ns", "b"))


@pytest.mark.parametrize(
    ("facts", "name", "expected", "route_ready"),
    [
        pytest.param(
            replace(FACTS, base_url=""), "Addressable", ("False", "nil URL", "URL is nil"), True, id="address"
        ),
        pytest.param(
            replace(FACTS, channel=ChannelState(ok=False, reason="DiskFull", message="the disk is full")),
            "ChannelReady",
            ("False", "DiskFull", "the disk is full"),
            False,
            id="channel",
        ),
        pytest.param(
            replace(FACTS, channel=ChannelState(ok=None)),
            "ChannelReady",
            ("Unknown", "ChannelNotReconciled", "The channel has not been opened yet."),
            False,
            id="channel-unknown",
        ),
    ],
)
def test_broker_that_is_not_ready(
    facts: BrokerFacts, name: str, expected: tuple[str, str, str], route_ready: bool
) -> None:
    """Ready says what the unhappy condition says; the ingress refuses only what the channel cannot take."""
    plan = reconcile_broker(a_broker(), Objects([]), facts, now=NOW)
    assert condition(plan.status, name) == expected
    assert condition(plan.status, "Ready") == expected
    assert plan.route.ready is route_ready
    assert plan.route.reason == ("" if route_ready else f"{expected[1]}: {expected[2]}")


@pytest.mark.parametrize(
    ("config", "objects", "cluster", "expected"),
    [
        pytest.param(
            None,
            [],
            False,
            ("True", "DefaultChannel", "spec.config is not set: the default channel is used."),
            id="none",
        ),
        pytest.param(
            CONFIG,
            [],
            False,
            ("True", "DefaultChannel", "ConfigMap ns/c does not exist: the default channel is used."),
            id="missing",
        ),
        pytest.param(
            CONFIG, [], True, ("False", "ConfigMapNotFound", "ConfigMap ns/c does not exist."), id="missing-in-cluster"
        ),
        pytest.param(
            {**CONFIG, "apiVersion": "rabbitmq.com/v1", "kind": "RabbitmqBrokerConfig"},
            [],
            False,
            (
                "True",
                "DefaultChannel",
                "spec.config names RabbitmqBrokerConfig ns/c, and only a ConfigMap is read: the default channel is used.",
            ),
            id="foreign-kind",
        ),
        pytest.param(
            CONFIG,
            [a_config(bootstrap_servers="k:9092")],
            False,
            (
                "True",
                "DefaultChannel",
                (
                    "ConfigMap ns/c asks for Kafka (bootstrap.servers), which is not supported yet: "
                    "the default channel is used."
                ),
            ),
            id="kafka",
        ),
        pytest.param(
            CONFIG,
            [a_config(bootstrap_servers="k:9092")],
            True,
            (
                "False",
                "ChannelNotSupported",
                "ConfigMap ns/c asks for Kafka (bootstrap.servers), which is not supported yet.",
            ),
            id="kafka-in-cluster",
        ),
        pytest.param(CONFIG, [a_config(channel="sqlite:")], False, ("True", "", ""), id="sqlite"),
        pytest.param(
            CONFIG,
            [a_config(channel="sqlite:", flavour="P1D")],
            False,
            (
                "True",
                "KeysNotSupported",
                "ConfigMap ns/c: these keys are not supported yet and have no effect: flavour",
            ),
            id="more-keys",
        ),
        pytest.param(
            CONFIG,
            [a_config(channel="nats://n:4222")],
            False,
            (
                "False",
                "ChannelNotSupported",
                'ConfigMap ns/c: channel "nats://n:4222" is not supported yet, use sqlite:',
            ),
            id="our-key-cannot-be-followed",
        ),
    ],
)
def test_config(
    config: dict[str, Any] | None, objects: list[dict[str, Any]], cluster: bool, expected: tuple[str, str, str]
) -> None:
    """Without a cluster the default channel stands in for a config of others, and the condition says so."""
    broker = a_broker(config=config) if config else a_broker()
    plan = reconcile_broker(broker, Objects(objects), FACTS, now=NOW, cluster=cluster)
    assert condition(plan.status, "ConfigParsed") == expected
    assert plan.route.ready is (expected[0] == "True")


def test_dead_letter_sink() -> None:
    """The Broker's dead letter sink stands in its status; one that cannot be resolved leaves the Broker Ready."""
    sink = {"uri": "http://dead", "CACerts": "pem", "audience": "a"}
    status = reconcile_broker(a_broker(delivery={"deadLetterSink": sink}), Objects([]), FACTS, now=NOW).status
    assert status["deadLetterSinkUri"] == "http://dead"
    assert (status["deadLetterSinkCACerts"], status["deadLetterSinkAudience"]) == ("pem", "a")
    lost = reconcile_broker(a_broker(delivery={"deadLetterSink": {"uri": "/x"}}), Objects([]), FACTS, now=NOW).status
    assert condition(lost, "DeadLetterSinkResolved")[:2] == ("False", "Unable to get the dead letter sink's URI")
    assert condition(lost, "Ready")[0] == "True"
    assert "deadLetterSinkUri" not in lost


def test_annotations_without_effect() -> None:
    """A penstock.dev annotation on a Broker is named, and leaves it Ready."""
    broker = a_broker({"penstock.dev/paused": "true"})
    status = reconcile_broker(broker, Objects([]), FACTS, now=NOW).status
    assert "penstock.dev/paused" in condition(status, "AnnotationsSupported")[2]
    assert condition(status, "Ready")[0] == "True"


def test_status_does_not_flap() -> None:
    """Reconciling a Broker that has its status already gives an equal status at any later time."""
    broker = a_broker(config=CONFIG, delivery={"deadLetterSink": {"uri": "/x"}})
    broker["status"] = reconcile_broker(broker, Objects([]), FACTS, now=NOW).status
    assert reconcile_broker(broker, Objects([]), FACTS, now="2027-01-01T00:00:00Z").status == broker["status"]


@pytest.mark.parametrize(
    ("broker_class", "cluster", "expected"),
    [("Penstock", True, True), ("Kafka", True, False), ("", True, False), ("Kafka", False, True)],
)
def test_ours(broker_class: str, cluster: bool, expected: bool) -> None:
    """In a cluster only class Penstock is ours, without one every class."""
    broker = a_broker({"eventing.knative.dev/broker.class": broker_class})
    assert is_ours(broker, cluster=cluster) is expected


def a_plan(data: dict[str, str] | None = None, fullness: int = 0) -> BrokerPlan:
    objects = Objects([a_config(**(data or {}))])
    return reconcile_broker(a_broker(config=CONFIG), objects, replace(FACTS, fullness=fullness), now=NOW)


def test_retention_is_read_from_the_config() -> None:
    assert a_plan().route.retention == Retention()
    assert a_plan({"retention.age": "P7D", "retention.size": "2Gi"}).route.retention == Retention(7 * 86400.0, 2 << 30)
    assert a_plan({"channel": "sqlite:", "retention.age": "PT0S"}).route.retention == Retention(0.0, None)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("retention.age", "7d", "retention.age: '7d': this is no ISO 8601 duration: write it like"),
        ("retention.age", "-PT1S", "retention.age: '-PT1S' is negative"),
        ("retention.size", "1 GB", "retention.size: '1 GB': this is no size: write it like"),
        ("whenFull", "drop", "whenFull: 'drop' is not usable, use refuse or dropOldest"),
        ("stream.partitions", "0", "stream.partitions: '0' is not usable, write a number from 1 to 1024"),
        ("stream.replicas", "three", "stream.replicas: 'three' is not usable, write a number from 1 to 5"),
        ("default.topic.partitions", "-1", "default.topic.partitions: '-1' is not usable"),
        ("stream.maxBytes", "10 GB", "stream.maxBytes: '10 GB': this is no size: write it like"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_the_fix(key: str, value: str, words: str) -> None:
    plan = a_plan({key: value})
    status, reason, message = condition(plan.status, "ConfigParsed")
    assert (status, reason) == ("False", "InvalidConfig")
    assert message.startswith("ConfigMap ns/c: ")
    assert words in message
    assert not plan.route.ready


@pytest.mark.parametrize(
    ("fullness", "when_full", "reason", "severity", "words"),
    [
        (
            50,
            "",
            "HalfFull",
            "Info",
            "More than 50 % of the room for events is taken; when it is full, events are refused",
        ),
        (80, "refuse", "NearlyFull", "Warning", "More than 80 %"),
        (80, "dropOldest", "NearlyFull", "Warning", "the oldest events are dropped, read or not"),
        (100, "", "Full", "Warning", "no room for new events: events are refused"),
    ],
)
def test_a_channel_that_fills_up_is_a_condition(
    fullness: int, when_full: str, reason: str, severity: str, words: str
) -> None:
    plan = a_plan({"whenFull": when_full} if when_full else {}, fullness)
    found = condition(plan.status, "RoomAvailable")
    assert found[:2] == ("False", reason)
    assert words in found[2]
    assert next(one for one in plan.status["conditions"] if one["type"] == "RoomAvailable")["severity"] == severity
    assert condition(plan.status, "Ready")[0] == "True"
    assert plan.route.ready


def test_a_channel_with_room_says_nothing() -> None:
    assert all(one["type"] != "RoomAvailable" for one in a_plan().status["conditions"])
