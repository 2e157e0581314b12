"""The routing table: everything that the data plane knows of Brokers and Triggers, as one frozen value.

The control plane builds it, ingress and dispatcher read it. A new table replaces the old one whole; `generation` rises
with each, so that the control plane can tell what the data plane has loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from eventing.delivery import DEFAULT_DELIVERY, DeliverySpec, Destination

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventing.filters import Filter


class Order(StrEnum):
    """In which order a Trigger's events go out, as far as their first deliveries are concerned.

    NONE: as they come, many at once. KEY: those with one `partitionkey` one at a time, in the order of the log. ALL: all
    of them one at a time.
    """

    NONE = "none"
    KEY = "key"
    ALL = "all"


class WhenFull(StrEnum):
    """What happens to a new event when the channel has no room: it is refused (503), or the oldest ones are dropped."""

    REFUSE = "refuse"
    DROP_OLDEST = "dropOldest"


@dataclass(frozen=True, slots=True)
class Retention:
    """How long (s) and up to how many bytes a Broker keeps events that all its Triggers have settled.

    None for what the settings say.
    """

    age: float | None = None
    size: int | None = None


DEFAULT_RETENTION = Retention()
"""That of a Broker which says nothing of it."""


class ObjectName(NamedTuple):
    """Namespace and name of a Broker or Trigger."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class TriggerRoute:
    """One Trigger as the dispatcher needs it. The `uid` is its identity: a Trigger made again is another one.

    `held` is empty, or says why nothing may be delivered now (an unresolved subscriber, an invalid filter, a pause):
    the Trigger keeps its place in the log and everything that comes is owed to it. `filter` and `subscriber` are None
    only where it is held. `rate` is how many deliveries may begin in a second, None for any number.
    """

    uid: str
    name: ObjectName
    generation: int
    filter: Filter | None
    subscriber: Destination | None
    dead_letter_sink: Destination | None = None
    delivery: DeliverySpec = DEFAULT_DELIVERY
    max_in_flight: int = 100
    order: Order = Order.NONE
    rate: float | None = None
    held: str = ""


@dataclass(frozen=True, slots=True)
class BrokerRoute:
    """One Broker: who may publish where, and its Triggers.

    `ready` is False while its channel is not usable; `reason` then says why, and the ingress answers 503 with it.
    """

    uid: str
    name: ObjectName
    triggers: tuple[TriggerRoute, ...] = ()
    ready: bool = True
    reason: str = ""
    retention: Retention = DEFAULT_RETENTION


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """All Brokers by name. An empty table with generation 0 means "nothing loaded yet", never "no Brokers".

    `live` says that it was made from lists that the API answered in this process, not from a cache: only then does the
    absence of a Trigger mean that it was deleted.
    """

    generation: int = 0
    live: bool = False
    brokers: Mapping[ObjectName, BrokerRoute] = field(default_factory=lambda: MappingProxyType({}))
