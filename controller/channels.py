"""The channels behind Brokers, and where each Trigger begins, as the control loop sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from channels.errors import ChannelError, LogNotFound
from channels.records import StartRecord
from controller.objects.annotations import Start, StartFrom
from controller.reconcile.broker import ChannelState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from channels.driver import Backend, Log
    from channels.records import LogName

log = structlog.get_logger()


class Channels:
    """Makes and removes logs, and stores start positions. Remembers what is done, so that asking again costs nothing."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._logs: dict[LogName, Log] = {}
        self._configs: dict[LogName, Mapping[str, str]] = {}
        self._started: dict[str, LogName] = {}

    def is_open(self, name: LogName) -> bool:
        """Whether the log exists."""
        return name in self._logs

    async def ensure(self, name: LogName, config: Mapping[str, str]) -> ChannelState:
        """Make the log if it does not exist, and give it this configuration; how it is."""
        if self._configs.get(name) != config:
            try:
                self._logs[name] = await self._backend.create(name, config)
                self._configs[name] = config
            except ChannelError as error:
                return ChannelState(ok=False, reason=type(error).__name__, message=str(error))
        return ChannelState(ok=True)

    async def look(self, name: LogName) -> ChannelState:
        """How the log is, without making it: that is for the process that leads."""
        if name not in self._logs:
            try:
                self._logs[name] = await self._backend.open(name)
            except LogNotFound:
                return ChannelState(ok=None)
            except ChannelError as error:
                return ChannelState(ok=False, reason=type(error).__name__, message=str(error))
        return ChannelState(ok=True)

    def partitions(self, name: LogName) -> int:
        """How many partitions the log has; it is open."""
        return self._logs[name].partitions

    async def is_started(self, trigger: str, name: LogName) -> bool:
        """Whether it is stored where a Trigger begins. Raises ChannelError."""
        if self._started.get(trigger) != name:
            known = await self._backend.state.get_start(trigger, name)
            if known is None or known.incarnation != self._logs[name].incarnation:
                return False
            self._started[trigger] = name
        return True

    async def start(self, trigger: str, name: LogName, wanted: Callable[[], Start]) -> None:
        """Store where a Trigger begins, unless that is known: only then `wanted` is asked, and may raise.

        Raises ChannelError.
        """
        if await self.is_started(trigger, name):
            return
        channel = self._logs[name]
        start = wanted()
        positions = {number: await _before(channel, number, start) for number in range(channel.partitions)}
        await self._backend.state.put_start(StartRecord(trigger, name, channel.incarnation, positions))
        self._started[trigger] = name

    async def keep_only(self, wanted: set[LogName]) -> None:
        """Remove the logs of Brokers that were deleted. Raises ChannelError."""
        for name in await self._backend.list():
            if name not in wanted:
                log.info("removing the log of a Broker that was deleted", broker=f"{name.namespace}/{name.name}")
                self._logs.pop(name, None)
                self._configs.pop(name, None)
                try:
                    await self._backend.delete(name)
                except LogNotFound:
                    continue


async def _before(channel: Log, partition: int, start: Start) -> int:
    """The position after which the Trigger is owed everything."""
    if start.where is StartFrom.TIME:
        return await channel.position_at(partition, start.time) - 1
    bounds = await channel.bounds(partition)
    return (bounds.first if start.where is StartFrom.EARLIEST else bounds.next) - 1
