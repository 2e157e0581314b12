"""The values that a channel stores and gives back: records of a log, and what dispatch remembers about them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from zlib import crc32

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventing.event import Event
    from eventing.routing import ObjectName

SLOTS = 64
"""Into how many slots the state of a backend is cut; fixed, since a partition's slot is a hash of its name."""


class LogName(NamedTuple):
    """Which Broker a log belongs to. `owner` is the Broker's uid: a Broker made again gets a log of its own."""

    namespace: str
    name: str
    owner: str


def slot_of(log: LogName, partition: int) -> int:
    """The slot in which the state of a Broker's partition is kept."""
    return crc32(f"{log.namespace}/{log.name}/{partition}".encode()) % SLOTS


# --- the log ---------------------------------------------------------------------------------------------------------


class Record(msgspec.Struct, frozen=True):
    """One stored event. `position` rises within the partition and is not dense; `time` is when it was stored (Unix s)."""

    position: int
    time: float
    event: Event

    @property
    def fingerprint(self) -> int:
        """A checksum that tells whether a log still has this record at this position."""
        return crc32(self.event.head)


@dataclass(frozen=True, slots=True)
class Page:
    """What one read returned. Go on with `after=next`: it may lie past the last record, since positions have gaps."""

    records: tuple[Record, ...]
    next: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """`first` is the lowest position that exists, `next` one past the highest ever used (they are equal when empty)."""

    first: int
    next: int


class Appended(NamedTuple):
    """Where an event was stored."""

    partition: int
    position: int


@dataclass(frozen=True, slots=True)
class LogStats:
    """How much a log holds: records and bytes over all partitions, and the time (Unix s) of the oldest record.

    The bytes are those of the events; a backend may count a little that it adds to each.

    `full` is the share of the room for new events that is taken: at 1.0 they are refused or the oldest dropped. It is 0.0
    where there is no bound.
    """

    records: int
    bytes: int
    oldest: float | None
    full: float = 0.0


# --- the state of dispatch -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a partition: `position`, and the `fingerprint` of the record that stood there (0 for none known)."""

    position: int
    fingerprint: int = 0


@dataclass(frozen=True, slots=True)
class StartRecord:
    """Where a Trigger begins: it is owed everything *after* `positions[partition]`.

    A partition that is not in `positions` appeared later and is owed from its first record on.
    """

    trigger: str
    log: LogName
    incarnation: str
    positions: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class TailRecord:
    """The common position of all Triggers that keep up, and who they are (uids): all up to `mark` is settled for them."""

    log: LogName
    partition: int
    incarnation: str
    mark: Mark
    members: frozenset[str]


@dataclass(frozen=True, slots=True)
class CursorRecord:
    """The place of one Trigger in one partition, while it is not at the tail or has deliveries under way.

    Everything up to `mark` is settled except the positions in `pending`: those under way, never more than the Trigger's
    window, and where an order is asked for those that wait behind one of their key. It counts before the tail, whether or not the Trigger is a member there.
    """

    trigger: str
    log: LogName
    partition: int
    incarnation: str
    mark: Mark
    pending: tuple[int, ...]


class DeliveryState(StrEnum):
    """What a stored delivery waits for: its next attempt, or a person."""

    RETRYING = "retrying"
    DEAD = "dead"


class Phase(StrEnum):
    """Whom the next attempt of a stored delivery goes to."""

    SUBSCRIBER = "subscriber"
    DEAD_LETTER_SINK = "deadLetterSink"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a delivery: when it began (Unix s), how long it took (s), whom it went to and what came of it.

    `outcome` is the short name of the `Outcome` (`refused`, `timeout`, `status`, ...), `status` the HTTP status where an
    answer came, `detail` a sentence for people.
    """

    time: float
    duration: float
    url: str
    outcome: str
    status: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the subscriber's part of a delivery ended: what becomes `knativeerrordest`, `-code` and `-data` (raw bytes)."""

    dest: str
    code: int
    data: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """A delivery that the delivery store holds: parked until `due` (Unix s), or dead with its `reason`.

    `tries` counts the attempts made in this `phase`, `attempts` keeps the latest ones of both. `failure` is set once
    the subscriber's part has failed for good.
    """

    id: str
    trigger: str
    trigger_name: ObjectName
    log: LogName
    partition: int
    position: int
    event: Event
    state: DeliveryState
    phase: Phase
    due: float
    reason: str
    tries: int
    attempts: tuple[Attempt, ...]
    failure: Failure | None
    created: float
    updated: float


class ParkedRef(NamedTuple):
    """A parked delivery, as small as it can be remembered: its id, when it is due (Unix s), and the bytes of its event."""

    id: str
    due: float
    size: int


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """A page of stored deliveries in the order of their ids; `cursor` leads to the next page, "" after the last."""

    deliveries: tuple[DeliveryRecord, ...]
    cursor: str


def delivery_id(incarnation: str, partition: int, position: int, trigger: str, replay: str = "") -> str:
    """The id of a delivery: writing the same delivery twice is writing it once."""
    key = f"{incarnation}/{partition}/{position}/{trigger}/{replay}"
    return blake2b(key.encode(), digest_size=16).hexdigest()


# --- changes of the state --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MoveTail:
    """Rewrite the position of a tail; its members stay as they are. The tail must exist."""

    log: LogName
    partition: int
    mark: Mark


@dataclass(frozen=True, slots=True)
class DropCursor:
    """Remove a Trigger's own cursor of a partition: from now on the tail counts for it, so it must be a member there."""

    trigger: str
    log: LogName
    partition: int


@dataclass(frozen=True, slots=True)
class RemoveDelivery:
    """Remove a stored delivery that was settled. Removing one that is gone is nothing."""

    id: str


@dataclass(frozen=True, slots=True)
class ForgetTrigger:
    """Remove start and cursors of a Trigger that was deleted, and turn its parked deliveries into dead ones."""

    trigger: str
    log: LogName


Change: TypeAlias = TailRecord | MoveTail | CursorRecord | DropCursor | DeliveryRecord | RemoveDelivery | ForgetTrigger
"""One change of the state. A list of them is applied in its order, as one."""


@dataclass(frozen=True, slots=True)
class Claim:
    """This process owns `slot` under claim number `number` (they rise) until `deadline` (loop time, s)."""

    slot: int
    number: int
    deadline: float


@dataclass(frozen=True, slots=True)
class SlotState:
    """All small records of one slot."""

    starts: tuple[StartRecord, ...]
    tails: tuple[TailRecord, ...]
    cursors: tuple[CursorRecord, ...]
