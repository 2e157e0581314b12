"""The control loop: watches objects, sets their statuses, and publishes the routing table.

    reflectors ──► world ──► dirty Brokers and Triggers ──► reconcile (pure) ──► StatusWriter
                                     ▲                           │
                   what the data plane has loaded                └──► routes ──► RoutingTable ──► publish

An object is looked at again when it, or anything that its last reconciliation asked for, changes. A status is made from
facts and never read back to decide anything, so a restart comes to the same result.

Of the processes that share a control plane one leads: it makes and removes logs, stores where Triggers begin, and writes
statuses. The others follow: they build the same table for their data planes, and tell in annotations of the statuses
what those do.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import structlog

from channels.errors import ChannelError
from channels.records import LogName
from controller.channels import Channels
from controller.kube.errors import AlreadyExists, KubeError
from controller.kube.reflector import Reflector
from controller.objects.annotations import FULL, InvalidAnnotation, loaded_note, number_of
from controller.objects.views import EVENTING, broker_key, child, condition_of, name_of, uid_of
from controller.reconcile.broker import BrokerFacts, is_ours, reconcile_broker
from controller.reconcile.broker_service import broker_service, service_key
from controller.reconcile.config import WHEN_FULL, broker_config
from controller.reconcile.trigger import TriggerFacts, reconcile_trigger, start_of
from controller.reconcile.world import Seen
from controller.routes import Routes
from controller.statuses import StatusWriter
from controller.world import LiveWorld
from eventing.routing import WhenFull
from eventing.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping

    from channels.driver import Backend
    from controller.cache import ObjectCache
    from controller.kube.client import KubeClient
    from controller.objects.kind import JsonObject, Kind, ObjectKey
    from eventing.routing import RoutingTable

log = structlog.get_logger()

RETRY = 1.0
"""Seconds until something is tried again that the channel or the API refused."""

AT_ONCE = 64
"""Objects that are reconciled together: each may wait for its channel, and a start has thousands."""

FIRST_LIST = 5.0
"""Seconds that the API server has for its first lists; then a process that has cached objects begins with those."""

FIND_KIND = 60.0
"""Seconds until a kind that a destination names, and that the server does not have, is looked for again."""

SETTLE = 10.0
"""Seconds from the first table for which a Trigger that was Ready counts as loaded: its data plane has just been started, and
a status that says so for a moment, of every Trigger, is work for everybody who watches."""

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

_LOCAL = frozenset({("discovery.k8s.io", "EndpointSlice")})
"""Those that matter without a cluster only: in one a Service is called by its name."""


class _NotStarted(Exception):
    """Where a Trigger begins is not stored yet; the process that leads will do it."""


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


class ControlLoop:
    """Runs until cancelled. `loaded`, `note` and `mark` are called by the data plane, `lead` by whoever holds the election;
    everything else happens in `run`. It follows until it is told to lead.
    """

    def __init__(
        self,
        kube: KubeClient,
        kinds: Mapping[tuple[str, str], Kind],
        backend: Backend,
        publish: Publish,
        settings: ControlSettings,
        cache: ObjectCache | None = None,
    ) -> None:
        self._kube = kube
        self._service = kinds["", "Service"]
        self._cache = cache
        self._channels = Channels(backend)
        self._publish = publish
        self._settings = settings
        self._world = LiveWorld()
        self._statuses = StatusWriter(kube, kinds, self._world.get, self._seen)
        self._routes = Routes()
        self._leads = False
        self._loaded: dict[str, dict[int, int]] = {}
        self._keys: dict[str, ObjectKey] = {}
        self._logs: dict[ObjectKey, LogName] = {}
        self._dirty: dict[ObjectKey, None] = {}
        self._dirty_brokers: dict[ObjectKey, None] = {}
        self._failed: set[ObjectKey] = set()
        self._wake = asyncio.Event()
        self._published: RoutingTable | None = None
        self._swept = False
        self._settled = False
        self._reflectors = [
            Reflector(kube, kinds[one], self._on_change, optional=one[0] != EVENTING)
            for one in sorted(WATCHED)
            if one not in _LOCAL or not settings.cluster
        ]
        self._kinds_watched = set(WATCHED)

    def lead(self, leads: bool) -> None:
        """Lead from now on, or follow another process."""
        if leads == self._leads:
            return
        self._leads = leads
        self._swept = False
        for uid, key in self._keys.items():
            self._mark(key)
            if not leads:
                self._tell_loaded(uid)

    def loaded(self, uid: str, partition: int, generation: int) -> None:
        """The data plane of this process serves this generation of a Trigger, in this partition."""
        known = self._loaded.setdefault(uid, {})
        if known.get(partition) != generation:
            known[partition] = generation
            if not self._leads:
                self._tell_loaded(uid)
            elif uid in self._keys:
                self._mark(self._keys[uid])

    def _tell_loaded(self, uid: str) -> None:
        self.note(uid, {loaded_note(number): str(known) for number, known in self._loaded.get(uid, {}).items()})

    def note(self, uid: str, notes: Mapping[str, str | None]) -> None:
        """What the data plane tells of an object: annotations of its status, None for those that are to go."""
        if uid in self._keys and notes:
            self._statuses.note(self._keys[uid], notes)

    def mark(self, uid: str, percent: int) -> None:
        """The data plane tells that the channel of a Broker reached or left a mark: so much of its room is taken."""
        self.note(uid, {FULL: str(percent) if percent else None})

    async def run(self) -> None:
        """Watch and reconcile. The first table is published when every kind was listed once."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._statuses.run())
            for reflector in self._reflectors:
                group.create_task(reflector.run())
            if self._cache is not None:
                group.create_task(self._cache.run(self._world.in_use))
            await self._first_objects()
            while True:
                await self._reconcile_dirty()
                self._watch_new_kinds(group)
                await self._publish_changes()
                await self._wake.wait()
                self._wake.clear()

    async def _first_objects(self) -> None:
        """Wait for the first list of every kind; where the server does not answer, begin with what is cached."""
        cached = self._cache.objects if self._cache is not None else ()
        try:
            async with asyncio.timeout(FIRST_LIST if cached else None):
                for reflector in self._reflectors:
                    await reflector.synced.wait()
        except TimeoutError:
            log.warning("the API server does not answer: the last known routes are used", objects=len(cached))
            for reflector in self._reflectors:
                kind = reflector.kind
                if not reflector.synced.is_set():
                    reflector.seed(
                        obj
                        for obj in cached
                        if (obj.get("apiVersion"), obj.get("kind")) == (kind.api_version, kind.kind)
                    )

    def _watch_new_kinds(self, group: asyncio.TaskGroup) -> None:
        """A destination may be of any kind that has an address: watch those that somebody names."""
        for group_name, kind in self._world.kinds_asked_for - self._kinds_watched if self._settings.cluster else ():
            self._kinds_watched.add((group_name, kind))
            group.create_task(self._watch_kind(group_name, kind))

    async def _watch_kind(self, group: str, name: str) -> None:
        while True:
            try:
                kind = await self._kube.find_kind(group, name)
            except KubeError as error:
                log.warning("a kind cannot be looked up; trying again", kind=f"{name}.{group}", error=str(error))
                kind = None
            if kind is not None:
                await Reflector(self._kube, kind, self._on_change, optional=True).run()
            await asyncio.sleep(FIND_KIND)

    # --- what changed ---------------------------------------------------------------------------------------------

    def _on_change(self, key: ObjectKey, obj: JsonObject | None) -> None:
        if key.group == EVENTING:
            self._mark(key)
            self._remember(key, obj)
        self._seen(key, obj)

    def _remember(self, key: ObjectKey, obj: JsonObject | None) -> None:
        before = self._world.get(key)
        if before is not None and (obj is None or uid_of(obj) != uid_of(before)):
            self._keys.pop(uid_of(before), None)
            self._loaded.pop(uid_of(before), None)
        if key.kind == "Broker":
            self._logs.pop(key, None)
        if obj is not None:
            self._keys[uid_of(obj)] = key
            if key.kind == "Broker":
                self._logs[key] = _log_name(obj)

    def _seen(self, key: ObjectKey, obj: JsonObject | None) -> None:
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
            keys = list(islice(self._dirty_brokers or self._dirty, AT_ONCE))
            for key in keys:
                self._dirty_brokers.pop(key, None)
                del self._dirty[key]
            async with asyncio.TaskGroup() as group:
                for key in keys:
                    group.create_task(self._reconcile(key))

    async def _reconcile(self, key: ObjectKey) -> None:
        try:
            await (self._broker(key) if key.kind == "Broker" else self._trigger(key))
            self._failed.discard(key)
        except _NotStarted:
            self._failed.add(key)
            self._later(key)
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
            self._routes.put_broker(key, None)
            self._world.depends(key, frozenset())
            return
        seen = Seen(self._world)
        config = broker_config(broker, seen, cluster=self._settings.cluster)
        when_full = config.when_full or self._settings.when_full
        name = _log_name(broker)
        if self._leads:
            state = await self._channels.ensure(name, {**config.stream, WHEN_FULL: when_full.value})
        else:
            state = await self._channels.look(name)
        if state.ok is not True:
            self._later(key)
        percent = number_of(child(broker, "status", "annotations"), FULL) or 0
        facts = BrokerFacts(self._settings.base_url, state, percent, self._settings.when_full)
        plan = reconcile_broker(broker, seen, facts, now=_now(), cluster=self._settings.cluster)
        service = service_key(broker, self._settings.base_url) if self._settings.cluster else None
        missing = service is not None and seen.get(service) is None
        self._world.depends(key, seen.keys)
        self._routes.put_broker(key, plan.route)
        self._set_status(key, plan.status)
        if missing and service is not None and self._leads:
            with contextlib.suppress(AlreadyExists):
                await self._kube.create(self._service, broker_service(broker, service, self._settings.base_url))

    async def _trigger(self, key: ObjectKey) -> None:
        trigger = self._world.get(key)
        if trigger is None:
            self._routes.drop_trigger(key)
            self._world.depends(key, frozenset())
            return
        seen = Seen(self._world)
        its_broker = broker_key(trigger)
        broker = seen.get(its_broker)
        if broker is not None and not is_ours(broker, cluster=self._settings.cluster):
            self._routes.drop_trigger(key)
            self._world.depends(key, seen.keys)
            return
        facts = await self._facts(trigger, broker)
        plan = reconcile_trigger(trigger, broker, seen, facts, now=_now(), cluster=self._settings.cluster)
        self._world.depends(key, seen.keys)
        # Every Trigger that exists is in the table, also one that cannot be served: absence means that it was deleted.
        self._routes.put_trigger(key, its_broker, plan.route)
        self._set_status(key, plan.status)

    async def _facts(self, trigger: JsonObject, broker: JsonObject | None) -> TriggerFacts:
        uid = uid_of(trigger)
        if broker is None or uid_of(broker) == "":
            return TriggerFacts()
        name = _log_name(broker)
        if not self._channels.is_open(name):
            return TriggerFacts(problem="The Broker's channel is not ready.")
        try:
            if self._leads:
                await self._channels.start(uid, name, lambda: start_of(trigger))
            elif not await self._channels.is_started(uid, name):
                start_of(trigger)
                raise _NotStarted
        except InvalidAnnotation:
            # The reconciler finds the same fault and says it.
            return TriggerFacts()
        return TriggerFacts(start_stored=True, loaded_generation=self._loaded_generation(trigger, name))

    def _loaded_generation(self, trigger: JsonObject, name: LogName) -> int | None:
        """The generation that is served in every partition, here or by what other processes tell; None for none."""
        here = self._loaded.get(uid_of(trigger), {})
        told = child(trigger, "status", "annotations")
        oldest: int | None = None
        for partition in range(self._channels.partitions(name)):
            served = max(here.get(partition, -1), number_of(told, loaded_note(partition)) or -1)
            oldest = served if oldest is None else min(oldest, served)
        if oldest is not None and oldest >= 0:
            return oldest
        return None if self._settled else _loaded_before(trigger)

    def _settle(self) -> None:
        """From now on a Trigger that nobody has loaded is not Ready."""
        self._settled = True
        for uid, key in self._keys.items():
            if key.kind == "Trigger" and uid not in self._loaded:
                self._mark(key)

    def _set_status(self, key: ObjectKey, status: JsonObject) -> None:
        if self._leads:
            self._statuses.put(key, status)

    # --- publishing -----------------------------------------------------------------------------------------------

    async def _publish_changes(self) -> None:
        # A Trigger whose reconciliation failed may be missing from the table, and must not look deleted.
        live = not self._failed and all(reflector.live for reflector in self._reflectors)
        table = self._routes.table(live=live)
        if table is not self._published:
            if self._published is None:
                asyncio.get_running_loop().call_later(SETTLE, self._settle)
            await self._publish(table)
            self._published = table
            self._swept = False
            if self._cache is not None and live:
                self._cache.changed()
        if live and self._leads and not self._swept:
            await self._channels.keep_only(set(self._logs.values()))
            self._swept = True


def _loaded_before(trigger: JsonObject) -> int | None:
    """The generation that was loaded by what the Trigger's status says, None for none."""
    loaded = condition_of(trigger, "SubscriptionReady")
    if loaded is None or loaded.get("status") != "True":
        return None
    observed = child(trigger, "status").get("observedGeneration")
    return observed if isinstance(observed, int) else None


def _log_name(broker: JsonObject) -> LogName:
    return LogName(*name_of(broker), uid_of(broker))


def _now() -> str:
    return rfc3339(time.time())[:19] + "Z"
