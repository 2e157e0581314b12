"""A Trigger's status and route."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.objects.annotations import InvalidAnnotation
from controller.reconcile.trigger import TriggerFacts, TriggerPlan, reconcile_trigger, start_of
from controller.reconcile.world import Objects
from eventing.delivery import DEFAULT_DELIVERY, Destination
from eventing.routing import ObjectName, Order, TriggerRoute

NOW = "2026-01-01T00:00:00Z"
FACTS = TriggerFacts(start_stored=True, loaded_generation=2)
SINK = {"uri": "http://dead"}


def a_broker(ready: dict[str, Any] | None = None, observed: int = 1, **spec: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", **(ready or {"status": "True"})}]
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Broker",
        "metadata": {"name": "b", "namespace": "ns", "uid": "ub", "generation": 1},
        "spec": spec,
        "status": {"observedGeneration": observed, "conditions": conditions},
    }


def a_trigger(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": {
            "name": "t",
            "namespace": "ns",
            "uid": "ut",
            "generation": 2,
            "annotations": annotations or {},
        },
        "spec": {"broker": "b", "filter": {}, "subscriber": {"uri": "http://s/p"}} | spec,
    }


def reconciled(
    trigger: dict[str, Any],
    *objects: dict[str, Any],
    broker: dict[str, Any] | None = None,
    facts: TriggerFacts = FACTS,
) -> TriggerPlan:
    return reconcile_trigger(trigger, broker or a_broker(), Objects(objects), facts, now=NOW)


def route_of(plan: TriggerPlan) -> TriggerRoute:
    assert plan.route is not None
    return plan.route


def condition(plan: TriggerPlan, name: str) -> tuple[str, str, str]:
    """Status, reason and message of a condition."""
    one = next(one for one in plan.status["conditions"] if one["type"] == name)
    return one["status"], one.get("reason", ""), one.get("message", "")


def test_ready_trigger() -> None:
    """A Trigger that is loaded, resolved and understood is Ready, and its route is whole."""
    plan = reconciled(a_trigger({"penstock.dev/max-in-flight": "7"}))
    assert [one["type"] for one in plan.status["conditions"]] == [
        "BrokerReady",
        "DeadLetterSinkResolved",
        "DependencyReady",
        "FilterReady",
        "OIDCIdentityCreated",
        "Ready",
        "SubscriberResolved",
        "SubscriptionReady",
    ]
    assert condition(plan, "Ready") == ("True", "", "")
    assert condition(plan, "DeadLetterSinkResolved")[1:] == (
        "DeadLetterSinkNotConfigured",
        "No dead letter sink is configured.",
    )
    assert condition(plan, "OIDCIdentityCreated") == ("True", "authentication-oidc feature disabled", "")
    assert plan.status["subscriberUri"] == "http://s/p"
    assert plan.status["observedGeneration"] == 2
    route = route_of(plan)
    assert route.filter is not None
    assert route.filter.matches({"type": "any", "source": "/s", "id": "1"})
    assert replace(route, filter=None) == TriggerRoute(
        uid="ut",
        name=ObjectName("ns", "t"),
        generation=2,
        filter=None,
        subscriber=Destination("http://s/p"),
        max_in_flight=7,
    )


def test_broker_is_missing() -> None:
    """A Trigger without its Broker has no route, and says so in Knative's words."""
    plan = reconcile_trigger(a_trigger(), None, Objects([]), TriggerFacts(), now=NOW)
    expected = ("False", "BrokerDoesNotExist", 'Broker "b" does not exist')
    assert condition(plan, "BrokerReady") == expected
    assert condition(plan, "Ready") == expected
    assert plan.route is None


@pytest.mark.parametrize(
    ("broker", "expected"),
    [
        pytest.param(
            a_broker({"status": "False", "reason": "DiskFull", "message": "m"}),
            ("False", "DiskFull", "m"),
            id="not-ready",
        ),
        pytest.param(
            a_broker(observed=0),
            ("Unknown", "BrokerNotConfigured", "Broker has not yet been reconciled."),
            id="not-observed",
        ),
        pytest.param(
            {**a_broker(), "status": {}},
            ("Unknown", "BrokerNotConfigured", "Broker has not yet been reconciled."),
            id="no-status",
        ),
    ],
)
def test_broker_is_not_ready(broker: dict[str, Any], expected: tuple[str, str, str]) -> None:
    """The Trigger takes over what its Broker says; what was accepted is delivered all the same."""
    plan = reconciled(a_trigger(), broker=broker)
    assert condition(plan, "BrokerReady") == expected
    assert route_of(plan).held == ""


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(
            TriggerFacts(problem="the log is gone"), ("False", "NotSubscribed", "the log is gone"), id="problem"
        ),
        pytest.param(
            TriggerFacts(),
            ("Unknown", "SubscriptionNotConfigured", "The start position is not stored yet."),
            id="no-start",
        ),
        pytest.param(
            TriggerFacts(start_stored=True, loaded_generation=1),
            ("Unknown", "NotLoaded", "The data plane has not loaded this generation of the Trigger yet."),
            id="older-generation",
        ),
        pytest.param(FACTS, ("True", "", ""), id="loaded"),
    ],
)
def test_subscription_ready(facts: TriggerFacts, expected: tuple[str, str, str]) -> None:
    """SubscriptionReady is True once the start is stored and the data plane has loaded the Trigger as it is now."""
    assert condition(reconciled(a_trigger(), facts=facts), "SubscriptionReady") == expected


@pytest.mark.parametrize(
    ("trigger", "name", "expected", "held"),
    [
        pytest.param(
            a_trigger(subscriber={"ref": {"apiVersion": "v1", "kind": "Service", "name": "s"}}),
            "SubscriberResolved",
            ("Unable to get the Subscriber's URI", 'failed to get object ns/s: services "s" not found'),
            'subscriber: failed to get object ns/s: services "s" not found',
            id="subscriber",
        ),
        pytest.param(
            a_trigger(delivery={"deadLetterSink": {"uri": "/x"}}),
            "DeadLetterSinkResolved",
            (
                "Unable to get the dead letter sink's URI",
                'URI is not absolute (both scheme and host should be non-empty): "/x"',
            ),
            "dead letter sink: URI is not absolute",
            id="dead-letter-sink",
        ),
        pytest.param(
            a_trigger(filters=[{"exact": {"Type": "x"}}]),
            "FilterReady",
            ("InvalidFilter", 'invalid key name "Type": spec.filters[0].exact[Type]'),
            'invalid key name "Type": spec.filters[0].exact[Type]',
            id="filter",
        ),
        pytest.param(
            a_trigger(filtres=[]),
            "FilterReady",
            ("InvalidFilter", "must not set the field(s): spec.filtres"),
            "must not set the field(s): spec.filtres",
            id="misspelt-filter",
        ),
        pytest.param(
            a_trigger(delivery={"retry": -1}),
            "SubscriptionReady",
            ("InvalidDelivery", "invalid value: -1: spec.delivery.retry"),
            "invalid value: -1: spec.delivery.retry",
            id="delivery",
        ),
        pytest.param(
            a_trigger({"penstock.dev/max-in-flight": "many"}),
            "SubscriptionReady",
            (
                "InvalidAnnotation",
                (
                    "metadata.annotations[penstock.dev/max-in-flight]: 'many' is not usable, "
                    "use a whole number from 1 to 10000"
                ),
            ),
            "metadata.annotations[penstock.dev/max-in-flight]",
            id="max-in-flight",
        ),
        pytest.param(
            a_trigger({"penstock.dev/paused": "yes"}),
            "SubscriptionReady",
            ("InvalidAnnotation", "metadata.annotations[penstock.dev/paused]: 'yes' is not usable"),
            "metadata.annotations[penstock.dev/paused]",
            id="pause",
        ),
    ],
)
def test_held(trigger: dict[str, Any], name: str, expected: tuple[str, str], held: str) -> None:
    """What is not understood or not resolved makes the Trigger not Ready and holds it: nothing is delivered or lost."""
    plan = reconciled(trigger)
    status, reason, message = condition(plan, name)
    assert (status, reason) == ("False", expected[0])
    assert message.startswith(expected[1])
    assert condition(plan, "Ready") == (status, reason, message)
    assert route_of(plan).held.startswith(held)


def test_invalid_filter_has_no_filter_in_the_route() -> None:
    """A filter that cannot be compiled never reaches the data plane as one that matches."""
    assert route_of(reconciled(a_trigger(filters=[{"exact": {"Type": "x"}}]))).filter is None


def test_invalid_delivery_of_the_broker() -> None:
    """A Trigger that takes over its Broker's delivery takes over what is wrong with it."""
    plan = reconciled(a_trigger(), broker=a_broker(delivery={"retry": -1}))
    assert condition(plan, "SubscriptionReady")[2].startswith("the Broker's invalid value: -1: spec.delivery.retry")
    assert route_of(plan).held


@pytest.mark.parametrize(
    ("trigger", "broker", "retry", "sink"),
    [
        pytest.param(a_trigger(), a_broker(), DEFAULT_DELIVERY.retry, None, id="neither"),
        pytest.param(
            a_trigger(), a_broker(delivery={"retry": 3, "deadLetterSink": SINK}), 3, "http://dead", id="broker"
        ),
        pytest.param(
            a_trigger(delivery={"retry": 5}),
            a_broker(delivery={"retry": 3, "deadLetterSink": SINK}),
            5,
            "http://dead",
            id="trigger-without-sink",
        ),
        pytest.param(
            a_trigger(delivery={"deadLetterSink": {"uri": "http://own"}}),
            a_broker(delivery={"retry": 3, "deadLetterSink": SINK}),
            0,
            "http://own",
            id="trigger-with-sink",
        ),
    ],
)
def test_delivery(trigger: dict[str, Any], broker: dict[str, Any], retry: int, sink: str | None) -> None:
    """The Trigger's delivery replaces the Broker's as a whole, but for the dead letter sink."""
    plan = reconciled(trigger, broker=broker)
    route = route_of(plan)
    assert route.delivery.retry == retry
    assert route.dead_letter_sink == (Destination(sink) if sink else None)
    assert plan.status.get("deadLetterSinkUri") == sink


# --- dependencies and annotations ------------------------------------------------------------------------------------


def a_source(**status: Any) -> dict[str, Any]:
    metadata = {"name": "p", "namespace": "ns", "generation": 4}
    return {"apiVersion": "sources.knative.dev/v1", "kind": "PingSource", "metadata": metadata, "status": status}


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param(
            [],
            ("False", "DependencyDoesNotExist", "Dependency does not exist: PingSource ns/p not found"),
            id="missing",
        ),
        pytest.param(
            [a_source(observedGeneration=3)],
            (
                "Unknown",
                "GenerationNotEqual",
                "The dependency's metadata.generation, 4, is not equal to its status.observedGeneration, 3.",
            ),
            id="older-generation",
        ),
        pytest.param(
            [a_source()],
            ("Unknown", "DependencyNotConfigured", "Dependency has not yet been reconciled."),
            id="no-status",
        ),
        pytest.param(
            [a_source(conditions=[{"type": "Ready", "status": "False", "reason": "r", "message": "m"}])],
            ("False", "r", "m"),
            id="not-ready",
        ),
        pytest.param([a_source(conditions=[{"type": "Ready", "status": "True"}])], ("True", "", ""), id="ready"),
    ],
)
def test_dependency(objects: list[dict[str, Any]], expected: tuple[str, str, str]) -> None:
    """The Trigger waits for what its annotation names."""
    ref = '{"kind": "PingSource", "name": "p", "apiVersion": "sources.knative.dev/v1"}'
    plan = reconciled(a_trigger({"knative.dev/dependency": ref}), *objects)
    assert condition(plan, "DependencyReady") == expected


@pytest.mark.parametrize("text", ["p", "[]"])
def test_unreadable_dependency(text: str) -> None:
    """A dependency that is no JSON object is an error of the reference."""
    plan = reconciled(a_trigger({"knative.dev/dependency": text}))
    assert condition(plan, "DependencyReady")[:2] == ("False", "ReferenceError")


def test_paused() -> None:
    """A paused Trigger is Ready, says so, and is held."""
    plan = reconciled(a_trigger({"penstock.dev/paused": "true"}))
    assert condition(plan, "Ready")[0] == "True"
    assert condition(plan, "SubscriptionReady")[1] == "Paused"
    assert route_of(plan).held == 'the annotation penstock.dev/paused is "true"'


def test_start_matters_until_it_is_stored() -> None:
    """A bad start keeps a new Trigger from being Ready; later the annotation is not read any more."""
    trigger = a_trigger({"penstock.dev/start": "yesterday"})
    assert condition(reconciled(trigger, facts=TriggerFacts()), "SubscriptionReady")[1] == "InvalidAnnotation"
    assert condition(reconciled(trigger), "SubscriptionReady")[0] == "True"
    with pytest.raises(InvalidAnnotation, match="use now, earliest"):
        start_of(trigger)


def test_annotations_that_have_no_effect_are_told() -> None:
    """Misspelt annotations stand in a condition of their own that Ready does not count."""
    plan = reconciled(a_trigger({"penstock.dev/rate": "5/s", "penstock.dev/max-inflight": "1"}))
    assert condition(plan, "AnnotationsSupported") == (
        "False",
        "UnknownAnnotations",
        "These annotations do not exist: penstock.dev/max-inflight.",
    )
    assert condition(plan, "Ready")[0] == "True"


def test_order_and_rate_reach_the_route() -> None:
    """What the annotations ask for is in the route; what cannot be understood holds the Trigger."""
    route = reconciled(a_trigger({"penstock.dev/rate": "5/s", "penstock.dev/order": "key"})).route
    assert route is not None
    assert (route.rate, route.order, route.held) == (5.0, Order.KEY, "")
    wrong = reconciled(a_trigger({"penstock.dev/rate": "much"}))
    assert wrong.route is not None
    assert "such as 50/s" in wrong.route.held
    assert condition(wrong, "SubscriptionReady")[1] == "InvalidAnnotation"


@pytest.mark.parametrize(
    "trigger",
    [
        a_trigger(),
        a_trigger(subscriber={}, filters=[{"exact": {"Type": "x"}}], delivery={"retry": -1, "deadLetterSink": SINK}),
        a_trigger({"penstock.dev/order": "key", "knative.dev/dependency": "x", "penstock.dev/paused": "true"}),
    ],
    ids=["ready", "broken", "annotated"],
)
def test_status_does_not_flap(trigger: dict[str, Any]) -> None:
    """Reconciling a Trigger that has its status already gives an equal status at any later time."""
    trigger["status"] = reconciled(trigger).status
    later = reconcile_trigger(trigger, a_broker(), Objects([]), FACTS, now="2027-01-01T00:00:00Z")
    assert later.status == trigger["status"]


@pytest.mark.parametrize("spec", [None, "text", {"subscriber": 5, "filters": "x", "delivery": []}])
def test_any_stored_object_has_a_status(spec: object) -> None:
    """In a cluster nobody may have checked what is stored: it is held, and nothing fails."""
    trigger = a_trigger()
    trigger["spec"] = spec
    plan = reconciled(trigger)
    assert condition(plan, "Ready")[0] == "False"
    assert route_of(plan).held
