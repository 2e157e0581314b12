"""The portable half of a channel: what every backend is given and what each would otherwise repeat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from channels.errors import EventTooLarge
from channels.records import ForgetTrigger, RemoveDelivery, slot_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from channels.records import Change, Claim
    from eventing.event import Event

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

WHEN_FULL = "whenFull"
DROP_OLDEST = "dropOldest"
"""The key of a Broker's configuration that says what a full log does with a new event: `refuse` it, or drop the oldest ones,
read or not."""

REPLY_RESERVE = 64 * KIB
"""Bytes by which the ingress limit is below `Log.max_event_bytes`: a reply or a dead letter of an event that was just
taken carries more attributes than it, and must still fit."""


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """What an operator may set about the channels. Sizes are in bytes."""

    max_event_bytes: int = MIB + REPLY_RESERVE
    """The largest event (head and data) that a log takes; the ingress takes `REPLY_RESERVE` less, so 1 MiB. That is
    what Kafka (`message.max.bytes`) and NATS (`max_payload`) take unless told otherwise, so an event that passes here
    passes there. The CloudEvents specification asks for 64 KiB at least. A backend may take less than this, never more.
    Events of many MiB eat the byte budget of the dispatcher; their data belongs in an object store."""

    ring_bytes: int = 4 * MIB
    """How much of the newest records a backend keeps in memory, so that readers that keep up never touch the disk.
    0 turns it off. It counts towards the memory of the process."""

    page_bytes: int = 4 * MIB
    """How much one read takes at most, whatever number of records was asked for (one record always fits)."""

    max_file_bytes: int = 10 * GIB
    """How large the SQLite file may become. At `reserve_share` of it new events are refused; what is left is for
    replies, cursors and deliveries, so that dispatch can drain a full store."""

    max_disk_share: float = 0.8
    """How much of the room that the SQLite file has (itself and what is free on its disk) it may take. Other programs
    need some of the disk too."""

    commit_interval: float = 0.006
    """Seconds from the beginning of one SQLite commit to that of the next, while events come one by one but close
    together: at 500 events a second this saves a third of what an event costs. One that comes alone does not wait, nor do
    16 together, nor whoever sends each event after the answer to the last. 0 turns it off."""

    home: str | None = ""
    """Whose Brokers the logs on a shared server are: two installations do not use the same logs, or each would remove those of the
    other's Brokers. "" is that of the data directory, None that of a process which removes nothing."""

    lease: float = 10.0
    """Seconds for which a process may go on with its slots after it last told the others that it is alive, where several
    share a channel. When it dies, others have them at most half as long again later."""

    dispatches: bool = True
    """Whether this process takes its share of the slots. One that only takes events must not: nobody would serve them."""

    reserve_share: float = 0.9
    """The share of the limits above at which the store refuses events from publishers."""


def checked_size(events: Sequence[Event], limit: int) -> int:
    """The bytes of all events together. Raises EventTooLarge for the first that has more than `limit` of them."""
    total = 0
    for event in events:
        size = len(event.head) + len(event.data)
        if size > limit:
            raise EventTooLarge(size, limit)
        total += size
    return total


def check_slot(slot: int, claim: Claim, changes: Sequence[Change]) -> None:
    """Raise ValueError for a claim or a change of another slot: a backend that has real slots would lose it at load."""
    if claim.slot != slot:
        raise ValueError(f"a claim on slot {claim.slot} does not allow writing to slot {slot}")
    for change in changes:
        # These two name no partition: a delivery is found by its id, and a Trigger is forgotten in each partition.
        if isinstance(change, RemoveDelivery | ForgetTrigger):
            continue
        if (right := slot_of(change.log, change.partition)) != slot:
            raise ValueError(f"{type(change).__name__} of {change.log} belongs to slot {right}, not to {slot}")
