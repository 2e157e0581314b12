"""A process that dispatches one Trigger's events from a channel to a URL, with the others that share the channel.

python -m tests.system.dispatch_child CHANNEL DATA_DIR SUBSCRIBER
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from channels.channel import ChannelSettings
from channels.records import LogName
from channels.registry import open_backend
from dispatcher.budget import ByteBudget
from dispatcher.dispatcher import Dispatcher
from dispatcher.sender import Sender, SenderSettings
from dispatcher.services import Services
from dispatcher.settings import DispatchSettings
from eventing.delivery import Destination
from eventing.filters import EVERYTHING
from eventing.routing import BrokerRoute, ObjectName, RoutingTable, TriggerRoute

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from channels.driver import Backend

BROKER = LogName("default", "default", "broker-uid")
TRIGGER = "trigger-uid"
LEASE = 1.0


@contextlib.asynccontextmanager
async def dispatching(channel: str, data_dir: Path, subscriber: str) -> AsyncIterator[Backend]:
    """The channel, with a dispatcher at work on the slots of this process."""
    name = ObjectName(BROKER.namespace, BROKER.name)
    trigger = TriggerRoute(TRIGGER, ObjectName("default", "all"), 1, EVERYTHING, Destination(subscriber))
    table = RoutingTable(1, True, MappingProxyType({name: BrokerRoute(BROKER.owner, name, (trigger,))}))
    settings = DispatchSettings()
    async with (
        open_backend(channel, data_dir, ChannelSettings(home="tests", lease=LEASE)) as backend,
        Sender(SenderSettings()) as sender,
        asyncio.TaskGroup() as group,
    ):
        services = Services(sender.post, settings, ByteBudget(settings.byte_budget), lambda *_: None, sender.begin)
        dispatcher = Dispatcher(backend, services)
        dispatcher.publish(table)
        run = group.create_task(dispatcher.run())
        try:
            yield backend
        finally:
            dispatcher.stop()
            await run


async def main(channel: str, data_dir: str, subscriber: str) -> None:
    async with dispatching(channel, Path(data_dir), subscriber):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
