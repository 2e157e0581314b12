"""Events as NATS messages, and the small records as values of the bucket.

An event is a message in the binary mode of the CloudEvents NATS binding: `ce-id`, `ce-source`, ..., `content-type`, values
percent-encoded, data as the payload. Its headers are the lines of the event's head, so any NATS client can read it.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

from channels.records import Attempt, DeliveryRecord, DeliveryState, Failure, LogName, Mark, Phase, Record
from eventing.event import MAX_TTL, Event
from eventing.http_binding import event_of
from eventing.routing import ObjectName  # noqa: TC001 - msgspec resolves the annotation

if TYPE_CHECKING:
    from collections.abc import Mapping

TTL: Final = "penstock-ttl"
HEAD: Final = "penstock-head"
_OWN: Final = ("Nats-", "penstock-")

# What a client of NATS gives back as it was: no space around a value, nothing but printable ASCII.
_LINE: Final = re.compile(r"([!-9;-~]+): ([!-~](?:[ -~]*[!-~])?)")


def headers_of(event: Event) -> dict[str, str]:
    """The headers of an event. Where they cannot give its head back byte for byte, the head goes with them in base64."""
    headers: dict[str, str] = {}
    exact = True
    for line in event.head.decode("latin-1").split("\r\n")[:-1]:
        plain = _LINE.fullmatch(line)
        if plain is None or plain[1] in headers:
            exact = False
        else:
            headers[plain[1]] = plain[2]
    if not exact:
        headers[HEAD] = b64encode(event.head).decode()
    if event.ttl != MAX_TTL:
        headers[TTL] = str(event.ttl)
    return headers


def event_from(headers: Mapping[str, str] | None, data: bytes | None) -> Event:
    """The event of a message."""
    if headers is None:
        return event_of(b"", data or b"", MAX_TTL)
    ttl = int(headers.get(TTL, MAX_TTL))
    whole = headers.get(HEAD)
    if whole is not None:
        return event_of(b64decode(whole), data or b"", ttl)
    head = "".join([f"{name}: {value}\r\n" for name, value in headers.items() if not name.startswith(_OWN)])
    return event_of(head.encode(), data or b"", ttl)


def record_of(position: int, nanoseconds: int, headers: Mapping[str, str] | None, data: bytes | None) -> Record:
    """The record of a message that is stored."""
    return Record(position, nanoseconds / 1e9, event_from(headers, data))


def nanoseconds_of(time: str) -> int:
    """A time of the server (RFC 3339, UTC, up to nine digits of a second) in Unix nanoseconds."""
    second, _, fraction = time.removesuffix("Z").partition(".")
    return _second(second) * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)


@lru_cache(64)
def _second(text: str) -> int:
    return int(datetime.fromisoformat(text + "+00:00").timestamp())


# --- values of the bucket --------------------------------------------------------------------------------------------


class StoredStart(msgspec.Struct, frozen=True, array_like=True):
    """A start; here and below, new fields come last and have defaults, so that older values still load."""

    log: LogName
    trigger: str
    incarnation: str
    positions: dict[int, int]


class StoredTail(msgspec.Struct, frozen=True, array_like=True):
    """The position of a tail."""

    position: int
    fingerprint: int


class StoredMembers(msgspec.Struct, frozen=True, array_like=True):
    """Who stands at a tail."""

    log: LogName
    partition: int
    incarnation: str
    members: list[str]


class StoredCursor(msgspec.Struct, frozen=True, array_like=True):
    """A cursor."""

    log: LogName
    trigger: str
    partition: int
    incarnation: str
    position: int
    fingerprint: int
    pending: tuple[int, ...]


class StoredClaim(msgspec.Struct, frozen=True, array_like=True):
    """Which process has a slot; "" where it was given up."""

    owner: str


class StoredProcess(msgspec.Struct, frozen=True, array_like=True):
    """A process that is alive; its record ends by itself when it is not renewed. `host` and `pid` are for people."""

    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class _Delivery:
    trigger: str
    trigger_name: ObjectName
    log: LogName
    partition: int
    position: int
    due: float
    reason: str
    updated: float
    phase: Phase
    tries: int
    attempts: tuple[Attempt, ...]
    failure: Failure | None
    created: float
    ttl: int
    head: bytes
    data: bytes
    state: DeliveryState


def pack_delivery(delivery: DeliveryRecord) -> bytes:
    event = delivery.event
    return msgspec.msgpack.encode(
        _Delivery(
            delivery.trigger,
            delivery.trigger_name,
            delivery.log,
            delivery.partition,
            delivery.position,
            delivery.due,
            delivery.reason,
            delivery.updated,
            delivery.phase,
            delivery.tries,
            delivery.attempts,
            delivery.failure,
            delivery.created,
            event.ttl,
            event.head,
            event.data,
            delivery.state,
        )
    )


def unpack_delivery(delivery: str, value: bytes) -> DeliveryRecord:
    """The delivery of that id."""
    stored = msgspec.msgpack.decode(value, type=_Delivery)
    return DeliveryRecord(
        id=delivery,
        trigger=stored.trigger,
        trigger_name=stored.trigger_name,
        log=stored.log,
        partition=stored.partition,
        position=stored.position,
        event=event_of(stored.head, stored.data, stored.ttl),
        state=stored.state,
        phase=stored.phase,
        due=stored.due,
        reason=stored.reason,
        tries=stored.tries,
        attempts=stored.attempts,
        failure=stored.failure,
        created=stored.created,
        updated=stored.updated,
    )


def mark_of(tail: StoredTail) -> Mark:
    return Mark(tail.position, tail.fingerprint)
