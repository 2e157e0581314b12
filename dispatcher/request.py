"""The request of an attempt: which head and body a subscriber or a dead letter sink gets."""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from eventing import http_binding
from eventing.delivery import Format

if TYPE_CHECKING:
    from channels.records import Failure
    from eventing.event import Event

STRUCTURED = b"content-type: application/cloudevents+json\r\n"


class Request(msgspec.Struct, frozen=True):
    """`head` is a block of `name: value` lines, complete but for what the Sender adds."""

    head: bytes
    body: bytes


def subscriber_request(event: Event, namespace: str, form: Format) -> Request:
    """What the subscriber of a Trigger in `namespace` gets. `Prefer: reply` is always sent (Knative's data plane spec)."""
    extra = _extra(namespace)
    if form is Format.BINARY:
        return Request(event.head + extra, event.data)
    return Request(STRUCTURED + _passed(event) + extra, http_binding.structured(event, {}))


@lru_cache(maxsize=1024)
def _extra(namespace: str) -> bytes:
    return b"prefer: reply\r\nkn-namespace: " + namespace.encode() + b"\r\n"


def dead_letter_request(event: Event, failure: Failure, namespace: str, form: Format) -> Request:
    """What a dead letter sink gets: the event as it came, and the three `knativeerror*` attributes."""
    extra = b"kn-namespace: " + namespace.encode() + b"\r\n"
    if form is Format.BINARY:
        head = http_binding.dead_letter_head(event, failure.dest, failure.code, failure.data)
        return Request(head + extra, event.data)
    attributes = {
        "knativeerrordest": failure.dest,
        "knativeerrorcode": str(failure.code),
        "knativeerrordata": base64.b64encode(failure.data[: http_binding.MAX_ERROR_DATA]).decode(),
    }
    return Request(STRUCTURED + _passed(event) + extra, http_binding.structured(event, attributes))


def _passed(event: Event) -> bytes:
    """The lines of the head that are no attributes: what was passed through."""
    lines = event.head.split(b"\r\n")
    return b"".join(line + b"\r\n" for line in lines if line and not line.startswith((b"ce-", b"content-type:")))
