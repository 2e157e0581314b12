"""What arrives at the sink, taken apart for showing: both content modes of the CloudEvents HTTP binding, data as it came."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHOWN_HEADERS = ("traceparent", "tracestate", "x-request-id", "prefer")
SHOWN_PREFIXES = ("knative-", "x-b3-")
"""Headers that say something about the event's way; others are the HTTP library's, or secrets."""


class NotAnEvent(Exception):
    """A request is no CloudEvent; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Received:
    """One event: attributes in text form, the bytes of its data, `binary` or `structured`, and headers worth showing."""

    attributes: Mapping[str, str]
    data: bytes
    mode: str
    headers: Mapping[str, str]

    @property
    def key(self) -> tuple[str, str]:
        """What makes an event the same one when it comes again: source and id."""
        return self.attributes["source"], self.attributes["id"]

    def document(self) -> dict[str, Any]:
        """For programs: data is text in `data`, or `data_base64` where the bytes are no UTF-8."""
        shown: dict[str, Any] = {"attributes": dict(self.attributes)}
        try:
            shown["data"] = self.data.decode()
        except UnicodeDecodeError:
            shown["data_base64"] = base64.b64encode(self.data).decode()
        return shown | {"mode": self.mode, "headers": dict(self.headers)}


def receive(headers: Sequence[tuple[bytes, bytes]], body: bytes) -> Received:
    """The event in a request. Raises NotAnEvent."""
    texts = {name.decode("latin-1").lower(): value.decode(errors="replace") for name, value in headers}
    shown = {name: value for name, value in texts.items() if name in SHOWN_HEADERS or name.startswith(SHOWN_PREFIXES)}
    content_type = texts.get("content-type", "")
    if content_type.lower().startswith("application/cloudevents"):
        attributes, data = _structured(content_type, body)
        mode = "structured"
    else:
        attributes, data, mode = _binary(texts), body, "binary"
    missing = [name for name in ("id", "source", "type", "specversion") if not attributes.get(name)]
    if missing:
        raise NotAnEvent(f"not a CloudEvent: no {', no '.join(missing)}")
    return Received(attributes, data, mode, shown)


def _binary(headers: Mapping[str, str]) -> dict[str, str]:
    attributes = {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}
    if content_type := headers.get("content-type"):
        attributes["datacontenttype"] = content_type
    return attributes


def _structured(content_type: str, body: bytes) -> tuple[dict[str, str], bytes]:
    if not content_type.lower().startswith("application/cloudevents+json"):
        raise NotAnEvent(f"{content_type} is not understood here, only application/cloudevents+json")
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        encoded, raw = fields.pop("data_base64", None), fields.pop("data", None)
        attributes = {name: _text(value) for name, value in fields.items() if bytes(value) != b"null"}
        if encoded is not None:
            return attributes, msgspec.json.decode(encoded, type=bytes)
        if raw is None:
            return attributes, b""
        as_json = "json" in attributes.get("datacontenttype", "json").lower()
        return attributes, bytes(raw) if as_json else _text(raw).encode()
    except (msgspec.DecodeError, UnicodeError) as error:
        raise NotAnEvent(f"not a JSON CloudEvent: {error}") from error


def _text(value: msgspec.Raw) -> str:
    """A JSON string without its quotes, anything else as it is written."""
    raw = bytes(value)
    return msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else raw.decode()
