"""The channel contract: a partitioned log for each Broker, and the state of its dispatch.

    Backend (one file, NATS server or Kafka cluster)
       ├── Log, one for each Broker      append ─► positions     read(after) ─► Page     bounds, trim, stats
       └── State                         claim slots ─► load(slot) ─► put(slot, claim, changes)
                                         delivery store: get, list, parked

What every driver must do, and what it may leave to the layers above:

* A method returns when what it says is durable, or raises an error of `channels.errors`. It does not retry and it does
  not log; whoever calls decides.
* It may be called from many tasks of one event loop at once; appends that are waiting are stored together.
* A method that is cancelled leaves the store in a state that the contract allows: the change is there or it is not.
* `tests/contract` runs one suite over every driver. What is promised here is tested there and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from channels.records import (
        Appended,
        Bounds,
        Change,
        Claim,
        DeliveryPage,
        DeliveryRecord,
        DeliveryState,
        LogName,
        LogStats,
        Page,
        ParkedRef,
        SlotState,
        StartRecord,
    )
    from eventing.event import Event


class Log(Protocol):
    """The log of one Broker: partitions of records in the order in which they were stored."""

    @property
    def name(self) -> LogName:
        """The Broker whose log this is."""
        ...

    @property
    def incarnation(self) -> str:
        """An id of this very log: one that was deleted and made again has another."""
        ...

    @property
    def partitions(self) -> int:
        """How many partitions there are, numbered from 0."""
        ...

    @property
    def max_event_bytes(self) -> int:
        """The largest event (head and data, in bytes) that this log takes."""
        ...

    def append(self, events: Sequence[Event]) -> Awaitable[Sequence[Appended]]:
        """Store events; the result says where, in their order, once they are durable. All go to one partition.

        No coroutine is asked for, so that a driver which has a Future anyway can give it to the ingress as it is.
        The result raises ChannelFull or ChannelUnavailable when nothing was stored, AppendAmbiguous when that is not known, and
        EventTooLarge when one of them never fits (then nothing was stored).
        """
        ...

    async def append_settling(
        self, events: Sequence[Event], slot: int, claim: Claim, changes: Sequence[Change], causes: Sequence[str] = ()
    ) -> Sequence[Appended]:
        """Store replies, then the changes that settle their causes: never the changes without the replies.

        `causes` are the ids of the deliveries that the replies answer, where there are any. A backend without transactions,
        which may have stored the replies of a call that failed, knows them again by these as far as it can.
        One transaction where the backend has those. Raises what `append` and `State.put` raise.
        """
        ...

    async def read(self, partition: int, after: int, limit: int) -> Page:
        """Up to `limit` records with positions above `after`, in order; an empty page when there are none yet.

        Raises PositionExpired when retention removed a record above `after`.
        """
        ...

    async def wait(self, partition: int, after: int) -> None:
        """Return once a record above `after` may be there. May return early, never sleeps past a new record."""
        ...

    async def bounds(self, partition: int) -> Bounds:
        """The first and the next position."""
        ...

    async def position_at(self, partition: int, time: float) -> int:
        """The position of the first record stored at or after `time` (Unix s); the next position if there is none."""
        ...

    async def trim(self, partition: int, below: int) -> int:
        """Remove the records with positions below `below`; return how many. `bounds` moves, `next` does not."""
        ...

    async def stats(self) -> LogStats:
        """How much the log holds."""
        ...


class State(Protocol):
    """What dispatch remembers, in `SLOTS` slots, each written by its owner only."""

    async def claims(self) -> Mapping[int, Claim]:
        """The slots that this process may serve now. A write under an older claim number than the latest is refused.

        A slot that is to go to another process is no longer among them, and stays this process's until `release`.
        """
        ...

    async def claims_changed(self) -> None:
        """Return once `claims` may say something else than when it was asked last."""
        ...

    def may_start(self, claim: Claim) -> bool:
        """Whether a request may begin under this claim: its lease has not run out, nor another process taken the slot.

        It is asked before every attempt, so it only looks at what this process knows.
        """
        ...

    async def release(self, slot: int) -> None:
        """The dispatch of a slot that is no longer among the claims has ended: others may have it at once."""
        ...

    async def load(self, slot: int) -> SlotState:
        """All small records of a slot."""
        ...

    async def put(self, slot: int, claim: Claim, changes: Sequence[Change]) -> None:
        """Apply changes in their order, as one. All must belong to `slot`.

        Raises ClaimLost when a newer claim exists, ChannelUnavailable when nothing was stored.
        """
        ...

    async def put_start(self, start: StartRecord) -> StartRecord:
        """Store where a Trigger begins unless that is known already; return the record that counts.

        Needs no claim: the control plane calls it before the Trigger is Ready. A record of another incarnation of the
        log is replaced.
        """
        ...

    async def get_start(self, trigger: str, log: LogName) -> StartRecord | None:
        """Where a Trigger begins in a log, None where that was never stored (or was forgotten)."""
        ...

    async def parked(self, trigger: str, log: LogName, partition: int, limit: int) -> Sequence[ParkedRef]:
        """Up to `limit` parked deliveries of a Trigger in a partition, the one that is due first at the front."""
        ...

    async def get_delivery(self, delivery: str) -> DeliveryRecord | None:
        """A stored delivery, None where there is none of that id."""
        ...

    async def list_deliveries(
        self, *, state: DeliveryState | None = None, namespace: str = "", cursor: str = "", limit: int = 500
    ) -> DeliveryPage:
        """A page of stored deliveries: of one state, of one namespace, or all."""
        ...


class Backend(Protocol):
    """A store that can be opened: logs by name, and one state. Enter it with `async with`; leaving closes it."""

    @property
    def state(self) -> State:
        """The state that belongs to this backend's logs."""
        ...

    async def create(self, name: LogName, config: Mapping[str, str]) -> Log:
        """The log of a Broker, made if it does not exist.

        `config` are the keys of the Broker's ConfigMap that concern this backend: `whenFull` is one for all of them. For a
        log that exists they count from now on. Raises LogNameTaken when a log that
        would have the same name belongs to another Broker that still exists.
        """
        ...

    async def open(self, name: LogName) -> Log:
        """The log of a Broker. Raises LogNotFound."""
        ...

    async def delete(self, name: LogName) -> None:
        """Remove a log with all its records, starts, tails and cursors; dead deliveries stay. A missing one is nothing."""
        ...

    async def list(self) -> Sequence[LogName]:
        """The logs that exist."""
        ...
