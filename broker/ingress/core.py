"""What becomes of a request: the order of the checks is that of Knative's ingress, the first that fails decides.

    path ─► parse and validate ─► routes loaded? ─► Broker ─► ready? ─► append ─► 202
     404/400      400                 503            404       503       413/503

No HTTP server is known here: headers and body go in, an Answer comes out.
"""

from __future__ import annotations

import asyncio
import time
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import unquote

import structlog

from broker.ingress.answers import ACCEPTED, Answer, problem
from channels.channel import REPLY_RESERVE
from channels.errors import AppendAmbiguous, ChannelError, ChannelFull, EventTooLarge
from eventing import http_binding
from eventing.errors import InvalidEvent
from eventing.routing import ObjectName, RoutingTable
from eventing.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from channels.driver import Log
    from channels.records import Appended

log = structlog.get_logger()

UNKNOWN_LIMIT = 1024 * 1024
"""Bytes that the body may have of a request to a Broker that cannot take it anyway."""

MAX_TARGETS = 4096
"""How many request targets are remembered with the Broker that they name."""

RETRY_SOON = 1
RETRY_LATER = 5
"""Seconds for `Retry-After`: while Penstock starts, and while its store has no room or fails."""


class Ingress:
    """Takes events for the Brokers of the latest routing table that was published; one that `refuses` says why it takes none."""

    def __init__(self, refuses: str = "") -> None:
        self._refuses = refuses
        self._table: RoutingTable | None = None
        self._logs: Mapping[ObjectName, Log] = MappingProxyType({})
        self._draining = False
        self._targets: dict[bytes, ObjectName] = {}

    def publish(self, table: RoutingTable, logs: Mapping[ObjectName, Log]) -> None:
        """Take events for this table from now on. `logs` has an open log for every Broker that can take events."""
        self._table = table
        self._logs = logs

    def drain(self) -> None:
        """Penstock stops: not ready any more. Requests that still come are served."""
        self._draining = True

    @property
    def not_ready(self) -> str:
        """Why no traffic should be sent here, empty when it should."""
        if self._draining:
            return "Penstock is shutting down"
        return "" if self._table is not None else "the routes are not loaded yet"

    def target(self, path: str, host: str) -> ObjectName | Answer:
        """Which Broker an address names, or why none. It need not exist: that is looked at after the event."""
        if path == "/":
            return self._by_host(host) or problem(
                404, "the path is empty: post to /NAMESPACE/BROKER, or to / with the Host BROKER-broker.NAMESPACE"
            )
        parts = path.removesuffix("/").split("/")
        if len(parts) != 3 or not all(parts[1:]):
            return problem(400, f"the path {path!r} names no Broker: post to /NAMESPACE/BROKER")
        return ObjectName(parts[1], parts[2])

    def target_of(self, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> ObjectName | Answer:
        """As `target`, for a request target in origin form as it stands in the request line."""
        known = self._targets.get(url)
        if known is not None:
            return known
        path = unquote(url.partition(b"?")[0].decode("latin-1"))
        if path == "/":
            host = next((value for name, value in headers if name == b"host"), b"")
            return self.target(path, host.decode("latin-1"))
        target = self.target(path, "")
        if not isinstance(target, Answer) and len(self._targets) < MAX_TARGETS:
            self._targets[url] = target
        return target

    def body_limit(self, target: ObjectName) -> int:
        """The largest body, in bytes, that the Broker takes."""
        channel = self._logs.get(target)
        return channel.max_event_bytes - REPLY_RESERVE if channel is not None else UNKNOWN_LIMIT

    async def post(self, target: ObjectName, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> Answer:
        """Take an event or a batch. The answer is 202 when, and only when, all of it is durable."""
        taken = self.take(target, headers, body)
        if not isinstance(taken, Answer):
            await asyncio.wait((taken,))
            return answer_of(taken)
        return taken

    def take(
        self, target: ObjectName, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> Answer | asyncio.Future[Sequence[Appended]]:
        """Refuse an event or a batch, or begin to store it in one append: `answer_of` has the answer when that is done."""
        try:
            messages = http_binding.parse_all(headers, body)
            events = http_binding.admit_all(messages, rfc3339(time.time()))
        except InvalidEvent as error:
            return problem(400, str(error), attribute=error.attribute, index=error.index)
        channel = self._log(target)
        if isinstance(channel, Answer):
            return channel
        # An empty batch is a good one, and there is nothing to store.
        return asyncio.ensure_future(channel.append(events)) if events else ACCEPTED

    def _by_host(self, host: str) -> ObjectName | None:
        """`BROKER-broker.NAMESPACE...` or `BROKER.NAMESPACE...`; the former is what the per-Broker Services are called."""
        name, _, rest = host.partition(":")[0].partition(".")
        namespace = rest.partition(".")[0]
        if not name or not namespace:
            return None
        broker = ObjectName(namespace, name.removesuffix("-broker"))
        if self._table is None or broker in self._table.brokers:
            return broker
        plain = ObjectName(namespace, name)
        return plain if plain in self._table.brokers else None

    def _log(self, target: ObjectName) -> Log | Answer:
        if self._refuses:
            return problem(503, self._refuses)
        if self._table is None:
            return problem(503, "the routes are not loaded yet: try again", retry_after=RETRY_SOON)
        broker = self._table.brokers.get(target)
        if broker is None:
            return problem(404, f"there is no Broker {target.name!r} in namespace {target.namespace!r}")
        channel = self._logs.get(target)
        if channel is None or not broker.ready:
            reason = broker.reason or "its channel is not open yet"
            return problem(503, f"the Broker {target} cannot take events: {reason}", retry_after=RETRY_SOON)
        return channel


def answer_of(stored: asyncio.Future[Sequence[Appended]]) -> Answer:
    """The answer to an event whose storing is done, one way or the other."""
    if stored.cancelled():
        return problem(503, "Penstock is stopping: the event may or may not be stored", retry_after=RETRY_SOON)
    error = stored.exception()
    if error is None:
        return ACCEPTED
    if isinstance(error, ChannelError):
        return _refused(error)
    # The edge: nobody above waits for this but the publisher, who would wait in vain.
    log.error("an event could not be stored, for a reason that is a fault of Penstock: report it", exc_info=error)
    return problem(500, "the event may or may not be stored, send it again: a fault of Penstock, see its log")


def _refused(error: ChannelError) -> Answer:
    if isinstance(error, EventTooLarge):
        return problem(413, str(error))
    if isinstance(error, ChannelFull):
        return problem(503, f"the channel is full: {error}", retry_after=RETRY_LATER)
    if isinstance(error, AppendAmbiguous):
        return problem(503, f"the event may or may not be stored, send it again: {error}", retry_after=RETRY_SOON)
    return problem(503, f"the channel cannot store the event now: {error}", retry_after=RETRY_LATER)
