"""What a backend gives the contract suite, and the values that the suite stores."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from channels.channel import ChannelSettings
from channels.records import (
    Attempt,
    CursorRecord,
    DeliveryRecord,
    DeliveryState,
    Failure,
    LogName,
    Mark,
    Phase,
    StartRecord,
    TailRecord,
    delivery_id,
    slot_of,
)
from channels.registry import open_backend
from eventing.http_binding import event_of
from eventing.routing import ObjectName

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from channels.driver import Backend, Log
    from channels.records import Change, Claim, Record
    from eventing.event import Event

BROKER = LogName("shop", "default", "uid-1")
OTHER = LogName("shop", "other", "uid-2")
SLOT = slot_of(BROKER, 0)


class Harness(Protocol):
    """One installation of a backend. A backend joins the suite with one of these in `conftest.py`."""

    def open(self, settings: ChannelSettings = ...) -> AbstractAsyncContextManager[Backend]:
        """The backend; what an earlier opening stored is there. One at a time."""
        ...

    def killed(self) -> Harness:
        """The installation as it would be if every process of ours were killed right now."""
        ...


@dataclass(frozen=True)
class SqliteHarness:
    """A store in a directory of its own."""

    data_dir: Path

    def open(self, settings: ChannelSettings | None = None) -> AbstractAsyncContextManager[Backend]:
        return open_backend("sqlite:", self.data_dir, settings or ChannelSettings())

    def killed(self) -> SqliteHarness:
        # A kill leaves the files as they are: a copy of them is what the next process would find. The index of the
        # write-ahead log is shared memory, and made again from it.
        copy = self.data_dir.with_name(self.data_dir.name + "-killed")
        copy.mkdir()
        for name in ("penstock.db", "penstock.db-wal"):
            shutil.copy(self.data_dir / name, copy / name)
        return SqliteHarness(copy)


def event(number: int, *, size: int = 8, ttl: int = 255) -> Event:
    """Event `number`; its data are `size` bytes that are no text."""
    head = f"ce-specversion: 1.0\r\nce-id: {number}\r\nce-source: /contract\r\nce-type: test.{number % 3}\r\n"
    data = (number.to_bytes(4, "big") + b"\xff\x00\r\n")[:size].ljust(size, b"\xfe")
    return event_of(head.encode(), data, ttl)


def events(*numbers: int) -> list[Event]:
    return [event(number) for number in numbers]


async def fill(log: Log, count: int) -> list[int]:
    """Append events 0 to `count` - 1; the positions they got."""
    return [place.position for place in await log.append(events(*range(count)))]


async def read_all(log: Log, after: int, partition: int = 0) -> list[Record]:
    """Every record above `after`."""
    found: list[Record] = []
    while True:
        page = await log.read(partition, after, 7)
        if page.next == after:
            return found
        found += page.records
        after = page.next


def ids(records: Sequence[Record]) -> list[int]:
    """The numbers of the events."""
    return [int(record.event.id) for record in records]


def a_tail(*members: str, position: int = 5, log: LogName = BROKER) -> TailRecord:
    return TailRecord(log, 0, "incarnation", Mark(position, 77), frozenset(members))


def a_cursor(trigger: str, *pending: int, position: int = 9, log: LogName = BROKER) -> CursorRecord:
    return CursorRecord(trigger, log, 0, "incarnation", Mark(position, 99), pending)


def a_start(trigger: str, log: Log, *, position: int = 3) -> StartRecord:
    return StartRecord(trigger, log.name, log.incarnation, {0: position})


def a_delivery(position: int, trigger: str = "t1", *, due: float = 10.0, log: LogName = BROKER) -> DeliveryRecord:
    """A parked delivery with a value in each field."""
    attempt = Attempt(1.5, 0.25, "http://subscriber/", "status", 503, "it said no")
    return DeliveryRecord(
        id=delivery_id("incarnation", 0, position, trigger),
        trigger=trigger,
        trigger_name=ObjectName("shop", "ship"),
        log=log,
        partition=0,
        position=position,
        event=event(position, ttl=12),
        state=DeliveryState.RETRYING,
        phase=Phase.DEAD_LETTER_SINK,
        due=due,
        reason="",
        tries=3,
        attempts=(attempt, replace(attempt, status=None, outcome="refused")),
        failure=Failure("http://subscriber/", 503, b"\x00\xffno", "503"),
        created=1.0,
        updated=2.0,
    )


async def put(backend: Backend, *changes: Change) -> None:
    """Store changes of BROKER's slot."""
    await backend.state.put(SLOT, await claim_of(backend), changes)


async def claim_of(backend: Backend) -> Claim:
    """The claim on BROKER's slot."""
    return (await backend.state.claims())[SLOT]
