"""What reconciliation found, by object, and the routing table that is made of it: only what changed is made anew."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from eventing.routing import RoutingTable

if TYPE_CHECKING:
    from controller.objects.kind import ObjectKey
    from eventing.routing import BrokerRoute, ObjectName, TriggerRoute


class Routes:
    """The routes of Brokers and Triggers as they come and go. A Broker that did not change has the very same route in
    each table, so that whoever follows tables sees at a glance what is new.
    """

    def __init__(self) -> None:
        self._brokers: dict[ObjectKey, BrokerRoute] = {}
        self._triggers: dict[ObjectKey, dict[ObjectKey, TriggerRoute]] = {}
        self._broker_of: dict[ObjectKey, ObjectKey] = {}
        self._stale: dict[ObjectKey, None] = {}
        self._built: dict[ObjectKey, BrokerRoute] = {}
        self._table = RoutingTable(0, live=False, brokers=MappingProxyType({}))

    def put_broker(self, key: ObjectKey, route: BrokerRoute | None) -> None:
        """The route of a Broker, without Triggers; None where there is none."""
        if self._brokers.get(key) == route:
            return
        if route is None:
            del self._brokers[key]
        else:
            self._brokers[key] = route
        self._stale[key] = None

    def put_trigger(self, key: ObjectKey, broker: ObjectKey, route: TriggerRoute | None) -> None:
        """The route of a Trigger of this Broker; None where there is none."""
        before = self._broker_of.get(key)
        if before is not None and (before != broker or route is None):
            del self._broker_of[key]
            del self._triggers[before][key]
            self._stale[before] = None
            if not self._triggers[before]:
                del self._triggers[before]
        if route is not None and self._triggers.setdefault(broker, {}).get(key) != route:
            self._broker_of[key] = broker
            self._triggers[broker][key] = route
            self._stale[broker] = None

    def drop_trigger(self, key: ObjectKey) -> None:
        """There is no route of this Trigger."""
        if key in self._broker_of:
            self.put_trigger(key, self._broker_of[key], None)

    def table(self, *, live: bool) -> RoutingTable:
        """All routes: the same table as before where nothing changed, else one of the next generation."""
        changed = False
        for key in self._stale:
            changed |= self._build(key)
        self._stale.clear()
        if changed or live != self._table.live or not self._table.generation:
            brokers: dict[ObjectName, BrokerRoute] = {route.name: route for route in self._built.values()}
            self._table = RoutingTable(self._table.generation + 1, live, MappingProxyType(brokers))
        return self._table

    def _build(self, key: ObjectKey) -> bool:
        route = self._brokers.get(key)
        if route is None:
            return self._built.pop(key, None) is not None
        triggers = self._triggers.get(key, {})
        built = replace(route, triggers=tuple(triggers[each] for each in sorted(triggers)))
        if self._built.get(key) == built:
            return False
        self._built[key] = built
        return True
