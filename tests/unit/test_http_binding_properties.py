"""Properties of the HTTP binding: whatever comes is read or refused, and what is read stays what it was."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventing import http_binding
from eventing.errors import InvalidEvent
from eventing.http_binding import Message, admit, decode_head, encode_head, event_of, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventing.event import Event

ARRIVAL = "2026-01-02T03:04:05.123456Z"
REQUIRED = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
STRUCTURED = [(b"content-type", b"application/cloudevents+json")]


def _event(attributes: Mapping[str, str], data: bytes = b"", passed: tuple[tuple[bytes, bytes], ...] = ()) -> Event:
    return admit(Message({**REQUIRED, **attributes}, data, passed), ARRIVAL)


def _headers_of(head: bytes) -> list[tuple[bytes, bytes]]:
    lines = head.split(b"\r\n")
    assert lines.pop() == b""
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]


NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=8).filter(
    lambda name: name not in {"data", "knativebrokerttl", "time", "dataschema", "datacontenttype", *REQUIRED}
)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ALLOWED = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), min_size=1, max_size=20).filter(str.strip)
EXTENSIONS = st.dictionaries(NAMES, ALLOWED, max_size=4)
PASSED_VALUES = st.binary(max_size=10).filter(lambda value: not set(value) & set(b"\r\n\0"))


@given(st.dictionaries(NAMES, ANY_TEXT, max_size=5), st.lists(st.tuples(st.just(b"traceparent"), PASSED_VALUES)))
def test_any_text_survives_the_head(attributes: dict[str, str], passed: list[tuple[bytes, bytes]]) -> None:
    head = encode_head({**attributes, "datacontenttype": "text/plain"}, passed)
    assert decode_head(head) == {**attributes, "datacontenttype": "text/plain"}
    assert _headers_of(head)[len(attributes) + 1 :] == passed


@given(EXTENSIONS, ALLOWED, st.binary(max_size=50))
def test_an_event_survives_binary_mode(extensions: dict[str, str], subject: str, data: bytes) -> None:
    event = _event({**extensions, "subject": subject, "datacontenttype": "application/json"}, data)
    message = parse(_headers_of(event.head), event.data)
    assert (message.attributes, message.data, message.passed) == (event.attributes, data, ())
    assert event_of(event.head, event.data, event.ttl) == event


@given(EXTENSIONS, st.sampled_from(["application/json", "text/plain", "image/png"]), st.binary(max_size=50))
def test_an_event_survives_structured_mode(extensions: dict[str, str], kind: str, data: bytes) -> None:
    event = _event({**extensions, "datacontenttype": kind}, data)
    # JSON is kept but for the white space around it, which is not part of the value.
    message = parse(STRUCTURED, http_binding.structured(event, {}))
    assert message.attributes == event.attributes
    assert message.data.strip() == data.strip() if kind == "application/json" else message.data == data


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(JSON_VALUES, st.sampled_from([None, 0, 3]))
def test_json_data_is_never_printed_again(value: object, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    body = json.dumps({**REQUIRED, "datacontenttype": "application/json"})[:-1] + ', "data": ' + text + "}"
    message = parse(STRUCTURED, body.encode())
    assert message.data == text.encode()
    assert parse(STRUCTURED, http_binding.structured(admit(message, ARRIVAL), {})).data == text.encode()


KNOWN_HEADERS = st.sampled_from(
    [
        b"ce-id",
        b"ce-source",
        b"ce-type",
        b"ce-specversion",
        b"ce-time",
        b"Ce-Ext",
        b"content-type",
        b"traceparent",
        b"ce-",
    ]
)
KNOWN_VALUES = st.sampled_from([b"1.0", b"x", b"%", b'"', b"%zz", b"application/cloudevents+json", b"application/json"])
MEMBERS = st.dictionaries(
    st.sampled_from([*REQUIRED, "data", "data_base64", "datacontentencoding", "datacontenttype", "time", "ext"]),
    st.sampled_from(["1.0", "0.3", "base64", "AA==", "text/plain"]) | JSON_VALUES,
)
OBJECTS = MEMBERS.map(lambda members: json.dumps({**REQUIRED, **members}).encode())
BODIES = st.binary(max_size=40) | OBJECTS


@given(
    st.lists(st.tuples(KNOWN_HEADERS | st.binary(max_size=8), KNOWN_VALUES | st.binary(max_size=12)), max_size=8),
    st.booleans(),
    BODIES,
)
def test_anything_is_read_or_refused(headers: list[tuple[bytes, bytes]], in_json: bool, body: bytes) -> None:
    try:
        message = parse([*STRUCTURED, *headers] if in_json else headers, body)
        event = admit(message, ARRIVAL)
    except InvalidEvent:
        return
    assert decode_head(event.head) == event.attributes
    assert event.head.count(b"\n") == len(event.attributes) + len(message.passed)
    parse(STRUCTURED, http_binding.structured(event, {}))


BATCH = [(b"content-type", b"application/cloudevents-batch+json")]


@given(st.binary(max_size=40) | st.lists(BODIES, max_size=4).map(lambda bodies: b"[" + b",".join(bodies) + b"]"))
def test_any_batch_is_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(InvalidEvent):
        http_binding.parse_all(BATCH, body)


@given(st.lists(OBJECTS, max_size=4))
def test_a_batch_is_its_events(bodies: list[bytes]) -> None:
    batch = b"[" + b",\n".join(bodies) + b"]"
    try:
        alone = tuple(parse(STRUCTURED, body) for body in bodies)
    except InvalidEvent:
        with pytest.raises(InvalidEvent, match="of the batch"):
            http_binding.parse_all(BATCH, batch)
    else:
        assert http_binding.parse_all(BATCH, batch) == alone
