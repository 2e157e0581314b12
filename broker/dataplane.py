"""What takes a routing table in this process: the ingress and the dispatcher, with the logs that both use."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import structlog

from channels.errors import ChannelError
from channels.records import LogName

if TYPE_CHECKING:
    from broker.ingress.core import Ingress
    from channels.driver import Backend, Log
    from dispatcher.dispatcher import Dispatcher
    from eventing.routing import ObjectName, RoutingTable

log = structlog.get_logger()


class DataPlane:
    """Gives each new table to the dispatcher, if this process has one, and the ingress."""

    def __init__(self, backend: Backend, ingress: Ingress, dispatcher: Dispatcher | None) -> None:
        self._backend = backend
        self._ingress = ingress
        self._dispatcher = dispatcher
        self._logs: dict[ObjectName, tuple[str, Log]] = {}

    async def publish(self, table: RoutingTable) -> None:
        """Serve this table from now on. A Broker whose log cannot be opened answers 503 until a later table."""
        known, self._logs = self._logs, {}
        for name, route in table.brokers.items():
            if not route.ready:
                continue
            found = known.get(name)
            if found is not None and found[0] == route.uid:
                self._logs[name] = found
                continue
            try:
                self._logs[name] = route.uid, await self._backend.open(LogName(*name, route.uid))
            except ChannelError as error:
                log.warning("the log of a Broker cannot be opened", broker=str(name), error=str(error))
        logs = {name: channel for name, (_, channel) in self._logs.items()}
        if self._dispatcher is not None:
            self._dispatcher.publish(table)
        self._ingress.publish(table, MappingProxyType(logs))
