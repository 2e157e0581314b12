"""What must hold for any bytes at all. The fuzzers find bytes, and the test suite runs those that were kept."""

from __future__ import annotations

import contextlib

from eventing import http_binding
from eventing.cesql import compile_cesql, compile_expression
from eventing.errors import InvalidEvent, InvalidFilter
from eventing.explain import explain

ATTRIBUTES = {"id": "1", "source": "/s", "type": "a.b", "specversion": "1.0", "n": "7", "t": "true", "empty": ""}
ARRIVAL = "2026-01-02T03:04:05.123456Z"
STRUCTURED = [(b"content-type", b"application/cloudevents+json")]
WHITE_SPACE = b" \t\r\n"
BATCH = [(b"content-type", b"application/cloudevents-batch+json")]


def check_cesql(data: bytes) -> None:
    """An expression compiles or is refused, and what compiles has a value for any event. `explain` says the same."""
    text = data.decode(errors="replace")
    try:
        expression = compile_expression(text)
    except InvalidFilter:
        return
    expression.evaluate(ATTRIBUTES)
    expression.evaluate({})
    with contextlib.suppress(InvalidFilter):
        compiled = compile_cesql(text)
        assert explain(compiled, ATTRIBUTES).matched == compiled.matches(ATTRIBUTES)


def check_http_binding(data: bytes) -> None:
    """A request is read or refused. What is read goes out as it came, in binary and in structured mode.

    `data` is a content mode (`s`, `b`, anything else is binary), header lines, an empty line, and a body.
    """
    head, _, body = data[1:].partition(b"\n\n")
    headers = [(name, value) for name, _, value in (line.partition(b":") for line in head.split(b"\n"))]
    mode = {b"s": STRUCTURED, b"b": BATCH}.get(data[:1], [])
    try:
        messages = http_binding.parse_all([*mode, *headers], body)
        events = http_binding.admit_all(messages, ARRIVAL)
    except InvalidEvent:
        return
    for message, event in zip(messages, events, strict=True):
        assert event.data == message.data
        assert http_binding.decode_head(event.head) == event.attributes
        assert event.head.count(b"\n") == len(event.attributes) + len(message.passed)
        again = http_binding.parse(STRUCTURED, http_binding.structured(event, {}))
        # What came in base64 in binary mode (0.3) is decoded when it is read in structured mode.
        if "datacontentencoding" not in event.attributes:
            # White space around JSON is no part of it once it stands in other JSON.
            assert again.data.strip(WHITE_SPACE) == event.data.strip(WHITE_SPACE)
            assert {**again.attributes, "datacontenttype": ""} == {**event.attributes, "datacontenttype": ""}
