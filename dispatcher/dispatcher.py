"""All partitions of all Brokers that this process serves: follows the routing table, starts and stops their dispatch."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from channels.errors import ChannelError
from channels.records import LogName, slot_of
from dispatcher.partition import PartitionDispatch
from dispatcher.retention import NEARLY_FULL, mark_of, trim
from eventing.routing import DEFAULT_RETENTION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from channels.driver import Backend, Log
    from channels.records import Claim, DeliveryRecord
    from dispatcher.services import Services
    from eventing.routing import BrokerRoute, RoutingTable, TriggerRoute

log = structlog.get_logger()


class Dispatcher:
    """`publish` gives it routes, `run` serves them until `stop`, and then until what is in flight has settled."""

    def __init__(self, backend: Backend, services: Services) -> None:
        self._backend = backend
        self._services = services
        self._table: RoutingTable | None = None
        self._changed = asyncio.Event()
        self._stopping = False
        self._brokers: dict[LogName, _BrokerDispatch] = {}
        self._claims: Mapping[int, Claim] = {}
        self._held: set[int] = set()
        self._tasks: dict[int, set[asyncio.Task[None]]] = {}

    def publish(self, table: RoutingTable) -> None:
        """Serve this table from now on."""
        self._table = table
        self._changed.set()

    def stop(self) -> None:
        """Begin to end `run`."""
        self._stopping = True
        self._changed.set()

    async def retry(self, record: DeliveryRecord) -> bool:
        """Deliver a dead delivery again, from its first attempt on. False where its Trigger is not served here.

        Raises ChannelError.
        """
        broker = self._brokers.get(record.log)
        return broker is not None and await broker.retry(record)

    async def run(self) -> None:
        """Serve the latest table until `stop`."""
        async with asyncio.TaskGroup() as group:
            settings = self._services.settings
            await self._look_at_claims()
            housekeeping = [
                group.create_task(self._follow_claims()),
                group.create_task(self._every(settings.retention_interval, _BrokerDispatch.trim)),
                group.create_task(self._every(settings.mark_interval, _BrokerDispatch.look_how_full)),
            ]
            while not self._stopping:
                await self._changed.wait()
                self._changed.clear()
                if self._table is not None and not self._stopping:
                    await self._follow(self._table, group)
                    self._give_back(group)
            for task in housekeeping:
                task.cancel()
            for broker in self._brokers.values():
                broker.stop()

    # --- the slots that this process serves ---------------------------------------------------------------------

    async def _follow_claims(self) -> None:
        """Serve what this process owns as that changes: when processes join, leave and die."""
        while True:
            await self._backend.state.claims_changed()
            await self._look_at_claims()
            self._changed.set()

    async def _look_at_claims(self) -> None:
        self._claims = await self._backend.state.claims()
        self._held |= self._claims.keys()

    def _start(self, partition: PartitionDispatch, group: asyncio.TaskGroup) -> asyncio.Task[None]:
        slot = partition.claim.slot
        task = group.create_task(partition.run())
        self._tasks.setdefault(slot, set()).add(task)

        def ended(_: object) -> None:
            self._tasks[slot].discard(task)
            self._changed.set()

        task.add_done_callback(ended)
        return task

    def _give_back(self, group: asyncio.TaskGroup) -> None:
        """Release the slots that this process is to serve no longer, when what it had in flight there has settled."""
        for slot in self._held - self._claims.keys():
            if not self._tasks.get(slot):
                self._held.discard(slot)
                group.create_task(self._release(slot))

    async def _release(self, slot: int) -> None:
        try:
            await self._backend.state.release(slot)
        except ChannelError as error:
            log.warning("a slot could not be given back: others have it when its lease runs out", error=str(error))

    # --- the Brokers --------------------------------------------------------------------------------------------

    async def _follow(self, table: RoutingTable, group: asyncio.TaskGroup) -> None:
        routes = {LogName(*route.name, route.uid): route for route in table.brokers.values()}
        for name in self._brokers.keys() - routes.keys():
            self._brokers.pop(name).stop()
        for name, route in routes.items():
            try:
                await self._serve(name, route, group, live=table.live)
            except ChannelError as error:
                retry = self._services.settings.store_retry
                log.warning("a Broker cannot be served yet", broker=str(route.name), error=str(error), retry_in=retry)
                asyncio.get_running_loop().call_later(retry, self._changed.set)

    async def _serve(self, name: LogName, route: BrokerRoute, group: asyncio.TaskGroup, *, live: bool) -> None:
        broker = self._brokers.get(name)
        if broker is None:
            if not route.ready:
                return
            broker = _BrokerDispatch(await self._backend.open(name), self._backend, self._services)
            self._brokers[name] = broker
        elif broker.follows(route, self._claims, live=live):
            return
        claims = self._claims
        await broker.apply(route, live=live)
        for partition in await broker.follow(claims):
            broker.started(partition, self._start(partition, group))

    # --- retention ------------------------------------------------------------------------------------------------

    async def _every(self, interval: float, look: Callable[[_BrokerDispatch], Awaitable[None]]) -> None:
        """Look after each Broker every `interval` seconds. What fails is tried again with the next look."""
        while True:
            await asyncio.sleep(interval)
            for name, broker in list(self._brokers.items()):
                try:
                    await look(broker)
                except ChannelError as error:
                    log.warning(
                        "a log could not be looked after; trying again",
                        broker=f"{name.namespace}/{name.name}",
                        error=str(error),
                        retry_in=interval,
                    )


class _BrokerDispatch:
    """The partitions of one Broker's log."""

    def __init__(self, channel: Log, backend: Backend, services: Services) -> None:
        self._log = channel
        self._backend = backend
        self._services = services
        self._partitions: dict[int, PartitionDispatch] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._retention = DEFAULT_RETENTION
        self._trimmed: dict[int, int] = {}
        self._looked_at: list[int] = []
        self._mark = 0
        self._applied: tuple[BrokerRoute, bool] | None = None
        self._claims: Mapping[int, Claim] | None = None

    def follows(self, route: BrokerRoute, claims: Mapping[int, Claim], *, live: bool) -> bool:
        """Whether all of this is being served already."""
        return (
            self._claims is claims
            and self._applied is not None
            and self._applied[0] is route
            and self._applied[1] == live
            and not any(partition.ending for partition in self._partitions.values())
        )

    async def apply(self, route: BrokerRoute, *, live: bool) -> None:
        """Serve the Triggers of this route in the partitions that are served. Raises ChannelError."""
        uids = {trigger.uid for trigger in route.triggers}
        if self._applied == (route, live) and all(partition.serves(uids) for partition in self._partitions.values()):
            return
        self._applied = None
        for partition in self._partitions.values():
            await partition.apply(self._share(route), live=live)
        self._applied = (route, live)
        self._retention = route.retention

    def _share(self, route: BrokerRoute) -> dict[str, TriggerRoute]:
        """The Triggers as one partition serves them: limits are the Trigger's, and each partition has its share."""
        parts = self._log.partitions
        return {
            trigger.uid: trigger
            if parts == 1
            else replace(
                trigger,
                max_in_flight=max(1, trigger.max_in_flight // parts),
                rate=None if trigger.rate is None else trigger.rate / parts,
            )
            for trigger in route.triggers
        }

    async def follow(self, claims: Mapping[int, Claim]) -> Sequence[PartitionDispatch]:
        """Stop what is not claimed any more, and return what is to be started, loaded. Raises ChannelError."""
        new: list[PartitionDispatch] = []
        waits = False
        for number in range(self._log.partitions):
            claim = claims.get(slot_of(self._log.name, number))
            present = self._partitions.get(number)
            if present is not None and (claim is None or claim.number != present.claim.number or present.ending):
                present.stop()
                del self._partitions[number]
                present = None
            # What was served here before under another claim has to end first: two would deliver everything twice.
            if present is None and claim is not None and self._applied is not None and not self._is_ending(number):
                new.append(await self._load(number, claim, *self._applied))
            waits |= self._is_ending(number)
        uids = {trigger.uid for trigger in self._applied[0].triggers} if self._applied is not None else set()
        whole = not waits and all(one.serves(uids) for one in (*self._partitions.values(), *new))
        self._claims = claims if whole else None
        return new

    def _is_ending(self, number: int) -> bool:
        return number in self._tasks and not self._tasks[number].done()

    async def _load(self, number: int, claim: Claim, route: BrokerRoute, live: bool) -> PartitionDispatch:
        partition = PartitionDispatch(self._log, number, self._backend.state, claim, self._services)
        await partition.load()
        await partition.apply(self._share(route), live=live)
        return partition

    def started(self, partition: PartitionDispatch, task: asyncio.Task[None]) -> None:
        """The partition runs in this task."""
        self._partitions[partition.number] = partition
        self._tasks[partition.number] = task

    def stop(self) -> None:
        """Begin to end all of them."""
        for partition in self._partitions.values():
            partition.stop()

    async def retry(self, record: DeliveryRecord) -> bool:
        partition = self._partitions.get(record.partition)
        return partition is not None and await partition.retry(record)

    async def trim(self) -> None:
        """Trim what is settled for everybody and older, or more, than is kept for replay. Raises ChannelError."""
        for partition in list(self._partitions.values()):
            number, settled_below = partition.number, partition.settled_below
            # Where all that is settled has gone already, an idle Broker costs nothing.
            if settled_below == self._trimmed.get(number):
                continue
            await trim(self._log, number, settled_below, time.time(), self._retention, self._services.settings)
            if (await self._log.bounds(number)).first >= settled_below:
                self._trimmed[number] = settled_below

    async def look_how_full(self) -> None:
        """Tell when the log reaches or leaves a mark of its room. Raises ChannelError."""
        ends = [partition.end for partition in self._partitions.values()]
        if self._services.on_mark is None or (ends == self._looked_at and not self._mark):
            return
        stats = await self._log.stats()
        mark = mark_of(stats.full, self._mark)
        self._looked_at = ends
        if mark != self._mark:
            self._mark = mark
            self._services.on_mark(self._log.name.owner, mark)
        if mark >= NEARLY_FULL:
            await self._make_room(stats.bytes)

    async def _make_room(self, size: int) -> None:
        """Trim the older half of what is settled: room for new events is worth more than what is kept for replay."""
        retention = replace(self._retention, size=size // 2)
        for partition in list(self._partitions.values()):
            number, below = partition.number, partition.settled_below
            removed = await trim(self._log, number, below, time.time(), retention, self._services.settings)
            if removed:
                log.warning(
                    "the channel is nearly full: settled events were removed before their retention ended",
                    broker=f"{self._log.name.namespace}/{self._log.name.name}",
                    removed=removed,
                    fix="make room for the channel or raise its limit, or lower retention.size",
                )
