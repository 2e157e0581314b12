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
    from collections.abc import Awaitable, Callable

    from channels.driver import Backend, Log
    from channels.records import DeliveryRecord
    from dispatcher.services import Services
    from eventing.routing import BrokerRoute, RoutingTable

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
            housekeeping = [
                group.create_task(self._every(settings.retention_interval, _BrokerDispatch.trim)),
                group.create_task(self._every(settings.mark_interval, _BrokerDispatch.look_how_full)),
            ]
            while not self._stopping:
                await self._changed.wait()
                self._changed.clear()
                if self._table is not None and not self._stopping:
                    await self._follow(self._table, group)
            for task in housekeeping:
                task.cancel()
            for broker in self._brokers.values():
                broker.stop()

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
            await broker.load()
            await broker.apply(route, live=live)
            self._brokers[name] = broker
            broker.start(group)
        else:
            await broker.apply(route, live=live)

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
        self._partitions: list[PartitionDispatch] = []
        self._retention = DEFAULT_RETENTION
        self._trimmed: dict[int, int] = {}
        self._looked_at: list[int] = []
        self._mark = 0
        self._applied: tuple[BrokerRoute, bool] | None = None

    async def load(self) -> None:
        claims = await self._backend.state.claims()
        for number in range(self._log.partitions):
            claim = claims.get(slot_of(self._log.name, number))
            if claim is None:
                continue
            partition = PartitionDispatch(self._log, number, self._backend.state, claim, self._services)
            await partition.load()
            self._partitions.append(partition)

    async def apply(self, route: BrokerRoute, *, live: bool) -> None:
        triggers = {trigger.uid: trigger for trigger in route.triggers}
        if self._applied == (route, live) and all(partition.serves(triggers.keys()) for partition in self._partitions):
            return
        for partition in self._partitions:
            await partition.apply(triggers, live=live)
        self._applied = (route, live)
        self._retention = route.retention

    def start(self, group: asyncio.TaskGroup) -> None:
        for partition in self._partitions:
            group.create_task(partition.run())

    def stop(self) -> None:
        for partition in self._partitions:
            partition.stop()

    async def retry(self, record: DeliveryRecord) -> bool:
        for partition in self._partitions:
            if partition.number == record.partition:
                return await partition.retry(record)
        return False

    async def trim(self) -> None:
        """Trim what is settled for everybody and older, or more, than is kept for replay. Raises ChannelError."""
        for partition in self._partitions:
            number, settled_below = partition.number, partition.settled_below
            # Where all that is settled has gone already, an idle Broker costs nothing.
            if settled_below == self._trimmed.get(number):
                continue
            await trim(self._log, number, settled_below, time.time(), self._retention, self._services.settings)
            if (await self._log.bounds(number)).first >= settled_below:
                self._trimmed[number] = settled_below

    async def look_how_full(self) -> None:
        """Tell when the log reaches or leaves a mark of its room. Raises ChannelError."""
        ends = [partition.end for partition in self._partitions]
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
        for partition in self._partitions:
            number, below = partition.number, partition.settled_below
            removed = await trim(self._log, number, below, time.time(), retention, self._services.settings)
            if removed:
                log.warning(
                    "the channel is nearly full: settled events were removed before their retention ended",
                    broker=f"{self._log.name.namespace}/{self._log.name.name}",
                    removed=removed,
                    fix="make room for the channel or raise its limit, or lower retention.size",
                )
