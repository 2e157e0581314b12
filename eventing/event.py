"""The event as Penstock holds it: attributes for matching, a head for sending, data that nobody opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_TTL = 255
"""How often an event may pass a Broker (as the cause of replies) before it is stopped: Knative's default."""


class Event(msgspec.Struct, frozen=True):
    r"""One CloudEvent (1.0 or 0.3) that passed validation.

    `attributes` are all context attributes by lower-case name in text form, `specversion`, `datacontenttype` and
    `knativearrivaltime` included, `knativebrokerttl` not.
    `data` are the bytes that came in, never opened (b"" where there was none).
    `head` are the same attributes, and the headers that are passed through (`traceparent`, `x-request-id`, ...), as the
    header block of the HTTP binding's binary mode: `name: value\r\n` each, percent-encoded, ready to be sent. It is
    made once, by `eventing.http_binding`, and stored as it is, so that a delivery costs no encoding.
    `ttl` is the number of Broker passes left (Knative's `knativebrokerttl`).
    """

    attributes: Mapping[str, str]
    data: bytes
    head: bytes
    ttl: int = MAX_TTL

    @property
    def id(self) -> str:
        return self.attributes["id"]

    @property
    def source(self) -> str:
        return self.attributes["source"]

    @property
    def type(self) -> str:
        return self.attributes["type"]

    @property
    def size(self) -> int:
        """Bytes that this event takes in a log and in a budget."""
        return len(self.head) + len(self.data)
