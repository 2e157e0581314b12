"""The routing table as objects come, change and go: what changed is new, and everything else is the very same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.objects.kind import ObjectKey
from controller.routes import Routes
from eventing.filters import EVERYTHING
from eventing.routing import BrokerRoute, ObjectName, RoutingTable, TriggerRoute

NAMES = ["a", "b", "c"]


def broker_key(name: str) -> ObjectKey:
    return ObjectKey("eventing.knative.dev", "Broker", "ns", name)


def trigger_key(name: str) -> ObjectKey:
    return ObjectKey("eventing.knative.dev", "Trigger", "ns", name)


def broker(name: str, reason: str = "") -> BrokerRoute:
    return BrokerRoute(f"uid-{name}", ObjectName("ns", name), reason=reason)


def trigger(name: str, generation: int = 1) -> TriggerRoute:
    return TriggerRoute(f"uid-{name}", ObjectName("ns", name), generation, EVERYTHING, None)


def shown(table: RoutingTable) -> dict[str, list[tuple[str, int]]]:
    return {
        name.name: [(each.name.name, each.generation) for each in route.triggers]
        for name, route in table.brokers.items()
    }


def test_a_table_that_says_the_same_is_the_same() -> None:
    routes = Routes()
    routes.put_broker(broker_key("a"), broker("a"))
    first = routes.table(live=True)
    routes.put_broker(broker_key("a"), broker("a"))
    assert routes.table(live=True) is first
    again = routes.table(live=False)
    assert (again.live, again.generation) == (False, first.generation + 1)


def test_only_the_broker_that_changed_is_new() -> None:
    routes = Routes()
    for name in NAMES:
        routes.put_broker(broker_key(name), broker(name))
    first = routes.table(live=True)
    routes.put_trigger(trigger_key("t"), broker_key("b"), trigger("t"))
    second = routes.table(live=True)
    same = [name.name for name, route in second.brokers.items() if route is first.brokers[name]]
    assert same == ["a", "c"]
    assert shown(second)["b"] == [("t", 1)]
    assert shown(first)["b"] == []


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("broker"), st.sampled_from(NAMES), st.sampled_from(["", "why", None])),
            st.tuples(st.just("trigger"), st.sampled_from("tuv"), st.tuples(st.sampled_from(NAMES), st.integers(1, 2))),
            st.tuples(st.just("drop"), st.sampled_from("tuv"), st.none()),
        ),
        max_size=30,
    )
)
def test_the_table_has_what_was_put_last(steps: list[tuple[str, str, object]]) -> None:
    routes = Routes()
    brokers: dict[str, str] = {}
    triggers: dict[str, tuple[str, int]] = {}
    for what, name, value in steps:
        if what == "broker":
            routes.put_broker(broker_key(name), None if value is None else broker(name, str(value)))
            brokers.pop(name, None)
            if value is not None:
                brokers[name] = str(value)
        elif what == "drop":
            routes.drop_trigger(trigger_key(name))
            triggers.pop(name, None)
        elif isinstance(value, tuple):
            routes.put_trigger(trigger_key(name), broker_key(value[0]), trigger(name, value[1]))
            triggers[name] = value
        table = routes.table(live=True)
        assert {name.name: route.reason for name, route in table.brokers.items()} == brokers
        assert shown(table) == {
            one: sorted((name, generation) for name, (owner, generation) in triggers.items() if owner == one)
            for one in brokers
        }
