"""The control loop: watches objects, sets their statuses, and publishes the routing table.

    reflectors ──► world ──► dirty Brokers and Triggers ──► reconcile (pure) ──► status patch
                                     ▲                           │
                   what the data plane has loaded                └──► routes ──► RoutingTable ──► publish

An object is looked at again when it, or anything that its last reconciliation asked for, changes. A status is made from
facts and never read back to decide anything, so a restart comes to the same result.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import structlog

from channels.errors import ChannelError
from channels.records import LogName
from controller.channels import Channels
from controller.kube.errors import KubeError, NotFound
from controller.kube.reflector import Reflector
from controller.objects.annotations import InvalidAnnotation
from controller.objects.kind import EMPTY
from controller.objects.views import EVENTING, broker_key, name_of, uid_of
from controller.reconcile.broker import BrokerFacts, is_ours, reconcile_broker
from controller.reconcile.config import WHEN_FULL, broker_config
from controller.reconcile.trigger import TriggerFacts, reconcile_trigger, start_of
from controller.reconcile.world import Seen
from controller.world import LiveWorld
from eventing.routing import BrokerRoute, RoutingTable, TriggerRoute, WhenFull
from eventing.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping

    from channels.driver import Backend
    from controller.kube.client import KubeClient
    from controller.objects.kind import JsonObject, Kind, ObjectKey

log = structlog.get_logger()

RETRY = 1.0
"""Seconds until something is tried again that the channel or the API refused."""

WATCHED = frozenset(
    {
        (EVENTING, "Broker"),
        (EVENTING, "Trigger"),
        ("", "Service"),
        ("", "ConfigMap"),
        ("discovery.k8s.io", "EndpointSlice"),
        ("serving.knative.dev", "Service"),
    }
)
"""The kinds that a Broker, a Trigger or a destination may depend on."""


class Publish(Protocol):
    """How a new routing table reaches the data plane."""

    async def __call__(self, table: RoutingTable) -> None:
        """Serve this table from now on."""
        ...


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """`base_url` is what a Broker's address begins with; `cluster` says whether other Broker classes are other people's;
    `when_full` holds for Brokers whose config does not say it.
    """

    base_url: str
    cluster: bool = False
    when_full: WhenFull = WhenFull.REFUSE


@dataclass(slots=True)
class _Routes:
    """What reconciliation found, by object; the table is made of it."""

    brokers: dict[ObjectKey, BrokerRoute] = field(default_factory=dict)
    triggers: dict[ObjectKey, tuple[ObjectKey, TriggerRoute]] = field(default_factory=dict)

    def table(self, generation: int, *, live: bool) -> RoutingTable:
        by_broker: dict[ObjectKey, list[TriggerRoute]] = {}
        for _, (broker, route) in sorted(self.triggers.items()):
            by_broker.setdefault(broker, []).append(route)
        brokers = {
            route.name: replace(route, triggers=tuple(by_broker.get(key, ()))) for key, route in self.brokers.items()
        }
        return RoutingTable(generation, live, MappingProxyType(brokers))


class ControlLoop:
    """Runs until cancelled. `loaded` is called by the data plane; everything else happens in `run`."""

    def __init__(
        self,
        kube: KubeClient,
        kinds: Mapping[tuple[str, str], Kind],
        backend: Backend,
        publish: Publish,
        settings: ControlSettings,
    ) -> None:
        self._kube = kube
        self._kinds = kinds
        self._channels = Channels(backend)
        self._publish = publish
        self._settings = settings
        self._world = LiveWorld()
        self._routes = _Routes()
        self._loaded: dict[str, int] = {}
        self._notes: dict[str, Mapping[str, str]] = {}
        self._marks: dict[str, int] = {}
        self._keys: dict[str, ObjectKey] = {}
        self._logs: dict[ObjectKey, LogName] = {}
        self._dirty: dict[ObjectKey, None] = {}
        self._dirty_brokers: dict[ObjectKey, None] = {}
        self._failed: set[ObjectKey] = set()
        self._wake = asyncio.Event()
        self._published: RoutingTable | None = None
        self._reflectors = [Reflector(kube, kinds[one], self._on_change) for one in sorted(WATCHED)]

    def loaded(self, uid: str, generation: int) -> None:
        """The data plane serves this generation of a Trigger."""
        if self._loaded.get(uid) != generation:
            self._loaded[uid] = generation
            self._mark_object(uid)

    def note(self, uid: str, notes: Mapping[str, str]) -> None:
        """What the data plane tells of a Trigger: annotations of its status, none where there is nothing to tell."""
        if self._notes.get(uid, EMPTY) != notes:
            self._notes[uid] = notes
            self._mark_object(uid)

    def mark(self, uid: str, percent: int) -> None:
        """The data plane tells that the channel of a Broker reached or left a mark: so much of its room is taken."""
        self._marks[uid] = percent
        self._mark_object(uid)

    def _mark_object(self, uid: str) -> None:
        if uid in self._keys:
            self._mark(self._keys[uid])

    async def run(self) -> None:
        """Watch and reconcile. The first table is published when every kind was listed once."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors:
                group.create_task(reflector.run())
            for reflector in self._reflectors:
                await reflector.synced.wait()
            while True:
                await self._reconcile_dirty()
                await self._publish_changes()
                await self._wake.wait()
                self._wake.clear()

    # --- what changed ---------------------------------------------------------------------------------------------

    def _on_change(self, key: ObjectKey, obj: JsonObject | None) -> None:
        if key.group == EVENTING:
            self._mark(key)
        if key.kind == "Broker":
            self._logs.pop(key, None)
            if obj is not None:
                self._logs[key] = _log_name(obj)
        for dependent in self._world.put(key, obj):
            self._mark(dependent)

    def _mark(self, key: ObjectKey) -> None:
        self._dirty[key] = None
        if key.kind == "Broker":
            self._dirty_brokers[key] = None
        self._wake.set()

    def _later(self, key: ObjectKey) -> None:
        asyncio.get_running_loop().call_later(RETRY, self._mark, key)

    # --- reconciliation -------------------------------------------------------------------------------------------

    async def _reconcile_dirty(self) -> None:
        # Brokers go first: what their Triggers say depends on them. A status that changes makes others dirty in turn.
        while self._dirty:
            key = next(iter(self._dirty_brokers or self._dirty))
            self._dirty_brokers.pop(key, None)
            del self._dirty[key]
            try:
                await (self._broker(key) if key.kind == "Broker" else self._trigger(key))
                self._failed.discard(key)
            except (ChannelError, KubeError) as error:
                log.warning(
                    "reconciliation failed; trying again",
                    object=f"{key.kind} {key.namespace}/{key.name}",
                    error=str(error),
                )
                self._failed.add(key)
                self._later(key)

    async def _broker(self, key: ObjectKey) -> None:
        broker = self._world.get(key)
        if broker is None or not is_ours(broker, cluster=self._settings.cluster):
            self._routes.brokers.pop(key, None)
            self._world.depends(key, frozenset())
            return
        seen = Seen(self._world)
        config = broker_config(broker, seen, cluster=self._settings.cluster)
        when_full = config.when_full or self._settings.when_full
        state = await self._channels.ensure(_log_name(broker), {WHEN_FULL: when_full.value})
        if state.ok is not True:
            self._later(key)
        uid = uid_of(broker)
        self._keys[uid] = key
        facts = BrokerFacts(self._settings.base_url, state, self._marks.get(uid, 0), self._settings.when_full)
        plan = reconcile_broker(broker, seen, facts, now=_now(), cluster=self._settings.cluster)
        self._world.depends(key, seen.keys)
        self._routes.brokers[key] = plan.route
        await self._set_status(key, broker, plan.status)

    async def _trigger(self, key: ObjectKey) -> None:
        trigger = self._world.get(key)
        if trigger is None:
            self._routes.triggers.pop(key, None)
            self._world.depends(key, frozenset())
            return
        self._keys[uid_of(trigger)] = key
        seen = Seen(self._world)
        its_broker = broker_key(trigger)
        broker = seen.get(its_broker)
        if broker is not None and not is_ours(broker, cluster=self._settings.cluster):
            self._routes.triggers.pop(key, None)
            self._world.depends(key, seen.keys)
            return
        facts = await self._facts(trigger, broker)
        plan = reconcile_trigger(trigger, broker, seen, facts, now=_now(), cluster=self._settings.cluster)
        self._world.depends(key, seen.keys)
        # Every Trigger that exists is in the table, also one that cannot be served: absence means that it was deleted.
        if plan.route is None:
            self._routes.triggers.pop(key, None)
        else:
            self._routes.triggers[key] = (its_broker, plan.route)
        await self._set_status(key, trigger, plan.status)

    async def _facts(self, trigger: JsonObject, broker: JsonObject | None) -> TriggerFacts:
        uid = uid_of(trigger)
        if broker is None or uid_of(broker) == "":
            return TriggerFacts()
        name = _log_name(broker)
        if not self._channels.is_open(name):
            return TriggerFacts(problem="The Broker's channel is not ready.")
        try:
            await self._channels.start(uid, name, lambda: start_of(trigger))
        except InvalidAnnotation:
            # The reconciler finds the same fault and says it.
            return TriggerFacts()
        return TriggerFacts(True, self._loaded.get(uid), notes=self._notes.get(uid, EMPTY))

    async def _set_status(self, key: ObjectKey, obj: JsonObject, status: JsonObject) -> None:
        present = obj.get("status") or {}
        if present == status:
            return
        # A merge patch keeps what it does not name: what is no longer true must be named as null.
        patch = {**dict.fromkeys(present.keys() - status.keys()), **status}
        kind = self._kinds[key.group, key.kind]
        try:
            patched = await self._kube.patch_status(kind, key.namespace, key.name, {"status": patch})
        except NotFound:
            return
        for dependent in self._world.put(key, patched):
            self._mark(dependent)

    # --- publishing -----------------------------------------------------------------------------------------------

    async def _publish_changes(self) -> None:
        generation = (self._published.generation if self._published else 0) + 1
        # A Trigger whose reconciliation failed may be missing from the table, and must not look deleted.
        live = not self._failed and all(reflector.live for reflector in self._reflectors)
        table = self._routes.table(generation, live=live)
        if self._published and (self._published.brokers, self._published.live) == (table.brokers, table.live):
            return
        await self._publish(table)
        self._published = table
        if table.live:
            await self._channels.keep_only(set(self._logs.values()))


def _log_name(broker: JsonObject) -> LogName:
    return LogName(*name_of(broker), uid_of(broker))


def _now() -> str:
    return rfc3339(time.time())[:19] + "Z"
