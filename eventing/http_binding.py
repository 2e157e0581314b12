"""CloudEvents over HTTP (HTTP protocol binding 1.0.2): from headers and body to an Event, and to the head that is sent.

`parse` says what a message holds, `admit` makes it an Event of a Broker. Data is never opened.
"""

from __future__ import annotations

import re
from base64 import b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote_to_bytes

import msgspec

from eventing import structured as json_format
from eventing.attributes import check_name, check_text, is_media_type, validate, validate_event, validate_value
from eventing.errors import InvalidEvent
from eventing.event import MAX_TTL, Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MAX_ERROR_DATA: Final = 768
"""Bytes of an answer that `knativeerrordata` keeps: 1024 characters of base64, Knative's limit."""

# The headers that nearly every request has, by the attribute they carry; None is no attribute. All others are looked at.
_KNOWN: Final[dict[bytes, str | None]] = {
    b"content-type": "datacontenttype",
    b"ce-id": "id",
    b"ce-source": "source",
    b"ce-specversion": "specversion",
    b"ce-type": "type",
    b"ce-subject": "subject",
    b"ce-time": "time",
    b"ce-dataschema": "dataschema",
    b"ce-partitionkey": "partitionkey",
    b"host": None,
    b"user-agent": None,
    b"accept": None,
    b"accept-encoding": None,
    b"connection": None,
    b"content-length": None,
    b"transfer-encoding": None,
}
# Attributes whose values hardly ever come again. The others (type, source, ...) are remembered with what was found out
# about them, since reading and writing a value costs ten times what looking it up does.
_UNIQUE: Final = frozenset({"id", "time", "knativearrivaltime"})
_OURS: Final = frozenset({"knativearrivaltime", "knativebrokerttl"})
_LONGEST_REMEMBERED: Final = 128
_REMEMBERED: Final = 4096
_PASSED: Final = frozenset({b"x-request-id", b"traceparent", b"tracestate"})
_PASSED_PREFIXES: Final = (b"knative-", b"x-b3-")

# U+0021 to U+007E less the double quote and the percent sign (HTTP binding 3.1.3.2); `quote` knows letters and digits.
_UNQUOTED: Final = "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
_STRUCTURED: Final = "application/cloudevents+json"
_BATCH: Final = "application/cloudevents-batch+json"
_ANY_FORMAT: Final = b"application/cloudevents"
_AS_IT_IS: Final = re.compile(rb"[!#$&-~]+")
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_ERROR_ATTRIBUTES: Final = (b"ce-knativeerrordest:", b"ce-knativeerrorcode:", b"ce-knativeerrordata:")
_HOW_TO_SEND: Final = (
    "this is no CloudEvent: send the headers ce-id, ce-source, ce-specversion and ce-type with the data as the body, "
    f"or the whole event as JSON with Content-Type: {_STRUCTURED}"
)


class Message(msgspec.Struct, frozen=True):
    """A valid CloudEvent as it came over HTTP.

    `attributes` are the context attributes in text form by lower-case name, `specversion`, `datacontenttype` and what
    the sender set of `knative...` included. `passed` are the headers that travel with the event without being part of
    it (`x-request-id`, `knative-*`, `x-b3-*`, `traceparent`, `tracestate`), names in lower case.
    """

    attributes: Mapping[str, str]
    data: bytes
    passed: tuple[tuple[bytes, bytes], ...] = ()
    head: bytes = b""
    """The header lines that `parse` made of the attributes on the way; b"" where they have yet to be made."""


def parse(headers: Sequence[tuple[bytes, bytes]], body: bytes) -> Message:
    """Read a request or a reply in binary or structured content mode. Raises InvalidEvent, and nothing else.

    The first of repeated headers counts. A batch is not one message: `parse_all` reads it.
    """
    message = _parse(headers, body)
    if isinstance(message, Message):
        return message
    raise InvalidEvent("", f"a batch is not taken here: send one event, as {_STRUCTURED} or in binary mode")


def parse_all(headers: Sequence[tuple[bytes, bytes]], body: bytes) -> tuple[Message, ...]:
    """Read a request in any content mode: one message, or in batched mode any number of them, none included.

    A batch is good as a whole or not at all. Raises InvalidEvent, and nothing else; where it is one of several events
    that is at fault, the error says which.
    """
    message = _parse(headers, body)
    return (message,) if isinstance(message, Message) else message


def _parse(headers: Sequence[tuple[bytes, bytes]], body: bytes) -> Message | tuple[Message, ...]:
    attributes: dict[str, str] = {}
    lines: list[bytes] = []
    passed: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        attribute = _KNOWN.get(name, "")
        if attribute is None:
            continue
        if not attribute:
            attribute = _look_at(name, value, passed)
            if attribute is None:
                continue
        if attribute in attributes:
            continue
        if attribute in _UNIQUE:
            attributes[attribute], line = _read_unique(attribute, value)
        elif len(value) > _LONGEST_REMEMBERED:
            attributes[attribute], line = _read(attribute, value)
        else:
            attributes[attribute], line = _remembered_read(attribute, value)
        lines.append(line)
    media_type = attributes.get("datacontenttype")
    if media_type is not None and media_type[:23].lower() == "application/cloudevents":
        return _in_format(media_type.partition(";")[0].strip().lower(), body, tuple(passed))
    if "specversion" not in attributes and not attributes.keys() - {"datacontenttype"}:
        raise InvalidEvent("", _HOW_TO_SEND)
    validate_event(attributes)
    return Message(attributes, body, tuple(passed), b"".join(lines))


def is_event(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a response claims to carry a CloudEvent, valid or not."""
    for name, value in headers:
        lower = name.lower()
        if lower in (b"ce-specversion", b"ce-id"):
            return True
        if lower == b"content-type" and value.strip().lower().startswith(_ANY_FORMAT):
            return True
    return False


def admit(message: Message, arrival: str, max_ttl: int = MAX_TTL) -> Event:
    """The Event that a Broker stores for a message that was sent to it; `arrival` is the time as RFC 3339.

    Raises InvalidEvent where the event has passed too many Brokers: `knativebrokerttl` counts down to 0.
    """
    return _event(message, arrival, _ttl(message.attributes.get("knativebrokerttl"), max_ttl))


def admit_all(messages: Sequence[Message], arrival: str, max_ttl: int = MAX_TTL) -> tuple[Event, ...]:
    """As `admit`, for all messages of a request. Raises InvalidEvent that says which of several is at fault."""
    if len(messages) == 1:
        return (admit(messages[0], arrival, max_ttl),)
    events = []
    for index, message in enumerate(messages):
        try:
            events.append(admit(message, arrival, max_ttl))
        except InvalidEvent as error:
            raise error.in_batch(index) from error
    return tuple(events)


def admit_reply(message: Message, arrival: str, cause_ttl: int) -> Event:
    """The Event that a Broker stores for a reply to an event whose `ttl` is `cause_ttl`.

    What the subscriber set as `knativebrokerttl` does not count. Raises InvalidEvent as `admit` does.
    """
    return _event(message, arrival, cause_ttl - 1)


def encode_head(attributes: Mapping[str, str], passed: Iterable[tuple[bytes, bytes]]) -> bytes:
    r"""The header block of binary content mode: `name: value\r\n` each, `datacontenttype` as `content-type`.

    Raises InvalidEvent where a header that is passed through, or an attribute's name, would break the block.
    """
    lines = [_line(name, value) for name, value in attributes.items()]
    return b"".join((*lines, *(_passed_line(name, value) for name, value in passed)))


def decode_head(head: bytes) -> dict[str, str]:
    """The attributes in a block that `encode_head` made."""
    attributes = {}
    # What is passed through may hold any byte; the attributes are ASCII.
    for line in head.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(": ")
        if name.startswith("ce-"):
            attributes[name[3:]] = unquote_to_bytes(value).decode() if "%" in value else value
        elif name == "content-type":
            attributes["datacontenttype"] = value
    return attributes


def event_of(head: bytes, data: bytes, ttl: int) -> Event:
    """The Event that was stored as these three."""
    return Event(decode_head(head), data, head, ttl)


def dead_letter_head(event: Event, dest: str, code: int, data: bytes) -> bytes:
    """The head of an event on its way to a dead letter sink: with Knative's three error attributes, replaced if there.

    `dest` is the URL that failed, `code` the HTTP status, `data` the body of the answer, of which MAX_ERROR_DATA bytes
    are kept in base64.
    """
    head = event.head
    if b"ce-knativeerror" in head:
        lines = head.split(b"\r\n")
        head = b"\r\n".join(line for line in lines if not line.startswith(_ERROR_ATTRIBUTES))
    return head + encode_head(error_attributes(dest, code, data), ())


def error_attributes(dest: str, code: int, data: bytes) -> dict[str, str]:
    """Knative's three error attributes in text form; the parameters are those of `dead_letter_head`."""
    return {
        "knativeerrordest": dest,
        "knativeerrorcode": str(code),
        "knativeerrordata": b64encode(data[:MAX_ERROR_DATA]).decode(),
    }


def structured(event: Event, extra: Mapping[str, str]) -> bytes:
    """The event as the body of structured content mode, with `extra` attributes added or replaced."""
    return json_format.write({**event.attributes, **extra}, event.data)


def _look_at(name: bytes, value: bytes, passed: list[tuple[bytes, bytes]]) -> str | None:
    """The attribute that a header carries, if any; what is to be passed through goes to `passed`."""
    lower = name.lower()
    if lower in _KNOWN:
        return _KNOWN[lower]
    if lower.startswith(b"ce-"):
        attribute = lower[3:].decode("latin-1")
        check_name(attribute)
        if attribute == "datacontenttype":
            raise InvalidEvent(attribute, "is sent as the header Content-Type, not as ce-datacontenttype")
        return attribute
    if lower in _PASSED or lower.startswith(_PASSED_PREFIXES):
        passed.append((lower, value.strip(b" \t")))
    return None


def _value(attribute: str, value: bytes) -> str:
    """What a header says of an attribute, checked."""
    raw = value.strip(b" \t")
    if attribute != "datacontenttype":
        if raw[:1] == b'"' and raw[-1:] == b'"' and len(raw) > 1:
            raw = re.sub(rb"\\(.)", rb"\1", raw[1:-1], flags=re.DOTALL)
        if b"%" in raw:
            raw = unquote_to_bytes(raw)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidEvent(attribute, "is not UTF-8: percent-encode the UTF-8 bytes of the value") from error
    check_text(attribute, text)
    validate_value(attribute, text)
    return text


def _line(name: str, value: str) -> bytes:
    """The header line of an attribute."""
    if name == "datacontenttype":
        if not is_media_type(value):
            raise InvalidEvent("datacontenttype", "is no media type: write it like application/json")
        return f"content-type: {value}\r\n".encode()
    if not name.isalnum():
        check_name(name)
    return f"ce-{name}: {value if _is_plain(value) else quote(value, safe=_UNQUOTED)}\r\n".encode()


def _read(attribute: str, value: bytes) -> tuple[str, bytes]:
    """What a header says of an attribute, and the line that is sent of it: none where a Broker sets it itself."""
    text = _value(attribute, value)
    return text, b"" if attribute in _OURS else _line(attribute, text)


def _read_unique(attribute: str, value: bytes) -> tuple[str, bytes]:
    """As `_read`. Nearly every id and time is sent as it will be sent on: nothing to trim, to decode or to encode."""
    if _AS_IT_IS.fullmatch(value) is None or attribute in _OURS:
        return _read(attribute, value)
    text = value.decode("ascii")
    validate_value(attribute, text)
    return text, b"ce-%b: %b\r\n" % (attribute.encode(), value)


_remembered_read = lru_cache(_REMEMBERED)(_read)


def _passed_line(name: bytes, value: bytes) -> bytes:
    line = name + b": " + value
    if b"\n" in line or b"\r" in line or b"\0" in line:
        raise InvalidEvent("", "a header has a line break or a NUL in it: take it out")
    return line + b"\r\n"


def _in_format(essence: str, body: bytes, passed: tuple[tuple[bytes, bytes], ...]) -> Message | tuple[Message, ...]:
    if essence == _STRUCTURED:
        return _structured(body, passed)
    if essence == _BATCH:
        return _batch(body, passed)
    raise InvalidEvent("", f"Penstock reads no {essence}: send {_STRUCTURED}, {_BATCH} or binary mode")


def _structured(body: bytes, passed: tuple[tuple[bytes, bytes], ...]) -> Message:
    attributes, data = json_format.read(body)
    validate(attributes)
    return Message(attributes, data, passed)


def _batch(body: bytes, passed: tuple[tuple[bytes, bytes], ...]) -> tuple[Message, ...]:
    messages = []
    for index, each in enumerate(json_format.split(body)):
        try:
            messages.append(_structured(each, passed))
        except InvalidEvent as error:
            raise error.in_batch(index) from error
    return tuple(messages)


def _event(message: Message, arrival: str, ttl: int) -> Event:
    if ttl <= 0:
        raise InvalidEvent("knativebrokerttl", "has run out: the event went round too many times, look for a loop")
    attributes = {**message.attributes, "knativearrivaltime": arrival}
    attributes.pop("knativebrokerttl", None)
    if message.head and not message.passed:
        # A time as RFC 3339 is sent as it is.
        head = b"%bce-knativearrivaltime: %b\r\n" % (message.head, arrival.encode())
        return Event(attributes, message.data, head, ttl)
    return Event(attributes, message.data, encode_head(attributes, message.passed), ttl)


def _ttl(text: str | None, max_ttl: int) -> int:
    """One less than what the event came with, never above `max_ttl`; what is no 32 bit number does not count."""
    if text is None or _NUMBER.fullmatch(text) is None:
        return max_ttl
    number = float(text)
    return min(int(number) - 1, max_ttl) if -(2**31) <= number < 2**31 else max_ttl


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text and "%" not in text and '"' not in text
