"""The HTTP binding: what is read, what is refused with which attribute, and that nothing changes on the way."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from eventing import http_binding
from eventing.errors import InvalidEvent
from eventing.event import MAX_TTL
from eventing.http_binding import Message, admit, admit_reply, decode_head, encode_head, is_event, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventing.event import Event

ARRIVAL = "2026-01-02T03:04:05.123456Z"
REQUIRED = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
STRUCTURED = [(b"content-type", b"application/cloudevents+json")]


def _binary(**attributes: str | bytes) -> list[tuple[bytes, bytes]]:
    values = {**REQUIRED, **attributes}
    return [
        (b"ce-" + name.encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in values.items()
    ]


def _json(**members: Any) -> bytes:
    return json.dumps({name: value for name, value in {**REQUIRED, **members}.items() if value != "-"}).encode()


def _event(attributes: Mapping[str, str], data: bytes = b"", passed: tuple[tuple[bytes, bytes], ...] = ()) -> Event:
    return admit(Message({**REQUIRED, **attributes}, data, passed), ARRIVAL)


def _headers_of(head: bytes) -> list[tuple[bytes, bytes]]:
    lines = head.split(b"\r\n")
    assert lines.pop() == b""
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]


# Binary mode.


def test_binary_mode_is_read_whatever_the_case_of_the_names() -> None:
    headers = [
        (b"Host", b"localhost"),
        (b"CE-Id", b"1"),
        (b"Ce-Source", b"/s"),
        (b"ce-specversion", b"1.0"),
        (b"Ce-Type", b"t"),
        (b"Ce-Time", b"2018-04-05T03:56:24Z"),
        (b"ce-myExt", b"x"),
        (b"Content-Type", b"Application/JSON; charset=utf-8"),
        (b"X-Request-Id", b"r"),
        (b"Knative-Foo", b"f"),
        (b"x-b3-traceid", b"b"),
        (b"traceparent", b"p"),
        (b"tracestate", b"s"),
        (b"authorization", b"secret"),
        (b"prefer", b"reply"),
    ]
    message = parse(headers, b"{}")
    assert message.attributes == {
        **REQUIRED,
        "time": "2018-04-05T03:56:24Z",
        "myext": "x",
        "datacontenttype": "Application/JSON; charset=utf-8",
    }
    assert message.data == b"{}"
    assert message.passed == (
        (b"x-request-id", b"r"),
        (b"knative-foo", b"f"),
        (b"x-b3-traceid", b"b"),
        (b"traceparent", b"p"),
        (b"tracestate", b"s"),
    )


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        pytest.param(b"plain", "plain", id="plain"),
        pytest.param(b"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀", id="percent-encoded"),
        pytest.param("Euro €".encode(), "Euro €", id="bare-utf-8"),
        pytest.param(b"%2520", "%20", id="decoded-once"),
        pytest.param(b"100%", "100%", id="bare-percent"),
        pytest.param(rb'"a \"b\" \\ c"', r'a "b" \ c', id="quoted"),
        pytest.param(b"  x ", "x", id="white-space-of-the-header"),
        pytest.param(b"%20x%20", " x ", id="white-space-of-the-value"),
        pytest.param(b"", "", id="empty"),
        pytest.param(b"a\xc2\xa0b", "a\u00a0b", id="no-break-space"),
    ],
)
def test_a_header_value_is_decoded(sent: bytes, read: str) -> None:
    assert parse(_binary(ext=sent), b"").attributes["ext"] == read


def test_the_first_of_repeated_headers_counts() -> None:
    assert parse([*_binary(), (b"ce-id", b"2"), (b"CE-ID", b"3")], b"").attributes["id"] == "1"


@pytest.mark.parametrize(
    ("attributes", "at_fault"),
    [
        pytest.param({"id": ""}, "id", id="empty-id"),
        pytest.param({"source": "%20%20"}, "source", id="blank-source"),
        pytest.param({"type": " "}, "type", id="blank-type"),
        pytest.param({"specversion": "2.0"}, "specversion", id="unknown-version"),
        pytest.param({"specversion": ""}, "specversion", id="empty-version"),
        pytest.param({"time": "yesterday"}, "time", id="no-time"),
        pytest.param({"time": ""}, "time", id="empty-time"),
        pytest.param({"time": "2023-02-29T00:00:00Z"}, "time", id="no-such-day"),
        pytest.param({"time": "2023-01-01T24:00:00Z"}, "time", id="no-such-hour"),
        pytest.param({"time": "2023-01-01T00:00:00"}, "time", id="no-offset"),
        pytest.param({"subject": ""}, "subject", id="empty-subject"),
        pytest.param({"dataschema": ""}, "dataschema", id="empty-schema"),
        pytest.param({"dataschema": "/relative"}, "dataschema", id="relative-schema"),
        pytest.param({"my-ext": "x"}, "my-ext", id="bad-name"),
        pytest.param({"data": "x"}, "data", id="data-as-attribute"),
        pytest.param({"datacontenttype": "text/plain"}, "datacontenttype", id="content-type-as-attribute"),
        pytest.param({"ext": "a%0D%0Ab"}, "ext", id="line-break"),
        pytest.param({"ext": b"a\tb"}, "ext", id="tab"),
        pytest.param({"ext": "%00"}, "ext", id="nul"),
        pytest.param({"ext": "%FF"}, "ext", id="no-utf-8"),
        pytest.param({"ext": b"\xff"}, "ext", id="bare-no-utf-8"),
        pytest.param({"ext": "%EF%BF%BF"}, "ext", id="no-character"),
    ],
)
def test_a_bad_attribute_is_refused_by_name(attributes: dict[str, str | bytes], at_fault: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        parse(_binary(**attributes), b"")
    assert caught.value.attribute == at_fault


@pytest.mark.parametrize("name", ["id", "source", "specversion", "type"])
def test_a_missing_attribute_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidEvent, match="is missing") as caught:
        parse([header for header in _binary() if header[0] != b"ce-" + name.encode()], b"")
    assert caught.value.attribute == name


@pytest.mark.parametrize("value", [b"", b"json", b"text/", b"text/plain\xff", b"text/plain; \x01", b"a/b c"])
def test_a_content_type_that_is_no_media_type_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidEvent) as caught:
        parse([*_binary(), (b"content-type", value)], b"")
    assert caught.value.attribute == "datacontenttype"


@pytest.mark.parametrize(
    "time",
    [
        "2018-04-05t03:56:24z",
        "2018-04-05T03:56:24.123456789+05:30",
        "2024-02-29T23:59:60Z",
        "0000-12-31T00:00:00-00:00",
    ],
)
def test_a_time_is_kept_as_written(time: str) -> None:
    assert parse(_binary(time=time), b"").attributes["time"] == time


@pytest.mark.parametrize(
    "headers", [[], [(b"content-type", b"application/json")], [(b"host", b"x"), (b"x-request-id", b"1")]]
)
def test_what_is_no_event_is_told_how_to_send_one(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(InvalidEvent, match=r"ce-id, ce-source, .* application/cloudevents\+json") as caught:
        parse(headers, b"{}")
    assert caught.value.attribute == ""


@pytest.mark.parametrize("kind", [b"application/cloudevents-batch+json", b"application/cloudevents+xml"])
def test_other_formats_are_refused_by_name(kind: bytes) -> None:
    with pytest.raises(InvalidEvent, match=r"application/cloudevents\+json"):
        parse([*_binary(), (b"content-type", kind)], b"[]")


# Structured mode.


@pytest.mark.parametrize(
    ("text", "kind", "data"),
    [
        pytest.param(b'{"a" : 1.0,\n "b":1e400}', "application/json", None, id="json-verbatim"),
        pytest.param(b"12345678901234567890.10", "application/vnd.x+json; v=1", None, id="any-json-type"),
        pytest.param(b'"text"', "application/json", None, id="json-string"),
        pytest.param(b"null", "application/json", None, id="null"),
        pytest.param(b'"<a/>\\u20ac"', "text/xml", "<a/>€".encode(), id="text"),
        pytest.param(b'{"a": 1}', "text/plain", None, id="object-in-another-type"),
        pytest.param(b'{"a" : 1}', "-", None, id="no-type"),
    ],
)
def test_structured_data_keeps_its_bytes(text: bytes, kind: str, data: bytes | None) -> None:
    body = _json(datacontenttype=kind)[:-1] + b', "data": ' + text + b" }"
    message = parse(STRUCTURED, body)
    assert message.data == (text if data is None else data)
    assert message.attributes == {**REQUIRED, "datacontenttype": "application/json" if kind == "-" else kind}


def test_structured_attributes_get_their_text_form() -> None:
    body = _json(n=5, minus=-7, yes=True, no=False, absent=None, ttl=5.7, ext="é ")
    message = parse([(b"Content-Type", b" Application/CloudEvents+JSON ; charset=UTF-8")], body)
    wanted = {"n": "5", "minus": "-7", "yes": "true", "no": "false", "ttl": "5.7", "ext": "é "}
    assert message.attributes == {**REQUIRED, **wanted}
    assert message.data == b""


def test_structured_mode_wins_over_headers() -> None:
    assert parse([*_binary(id="other"), *STRUCTURED], _json()).attributes == REQUIRED


@pytest.mark.parametrize("order", [1, -1])
def test_base64_data_is_decoded_wherever_it_stands(order: int) -> None:
    members = {**REQUIRED, "data_base64": "AAH/", "datacontenttype": "image/png"}
    message = parse(STRUCTURED, json.dumps(dict(list(members.items())[::order])).encode())
    assert message.data == b"\x00\x01\xff"
    assert "data_base64" not in message.attributes


def test_version_0_3_has_its_own_encoding() -> None:
    body = _json(
        specversion="0.3", datacontentencoding="base64", data="AAH/", datacontenttype="image/png", schemaurl="/s"
    )
    message = parse(STRUCTURED, body)
    assert message.data == b"\x00\x01\xff"
    assert message.attributes == {**REQUIRED, "specversion": "0.3", "datacontenttype": "image/png", "schemaurl": "/s"}


@pytest.mark.parametrize(
    ("body", "at_fault"),
    [
        pytest.param(b"", "", id="empty"),
        pytest.param(b"[]", "", id="list"),
        pytest.param(b"{", "", id="cut"),
        pytest.param(b"\xff", "", id="no-utf-8"),
        pytest.param(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "", id="deep"),
        pytest.param(b"{}", "specversion", id="nothing"),
        pytest.param(_json(specversion="-"), "specversion", id="no-version"),
        pytest.param(_json(id="-"), "id", id="no-id"),
        pytest.param(_json(id=5), "id", id="number-as-id"),
        pytest.param(_json(subject=""), "subject", id="empty-subject"),
        pytest.param(_json(time=""), "time", id="empty-time"),
        pytest.param(_json(ext={}), "ext", id="object"),
        pytest.param(_json(ext=[1]), "ext", id="list-as-attribute"),
        pytest.param(_json(ext=2**31), "ext", id="large-number"),
        pytest.param(_json(ext="a\r\nb"), "ext", id="line-break"),
        pytest.param(_json(Ext="a"), "Ext", id="upper-case"),
        pytest.param(_json(**{"a\nb": "a"}), "", id="line-break-in-name"),
        pytest.param(_json(data=1, data_base64="AA=="), "data_base64", id="both"),
        pytest.param(_json(data_base64="?"), "data_base64", id="no-base64"),
        pytest.param(_json(data_base64=5), "data_base64", id="number-as-base64"),
        pytest.param(_json(specversion="0.3", data_base64="AA=="), "data_base64", id="base64-in-0.3"),
        pytest.param(_json(specversion="0.3", data="x", datacontentencoding="zip"), "datacontentencoding", id="zip"),
        pytest.param(_json(datacontenttype="text/plain\r\nx: y"), "datacontenttype", id="line-break-in-type"),
        pytest.param(_json(datacontenttype="text/plän"), "datacontenttype", id="type-no-ascii"),
    ],
)
def test_a_bad_structured_event_is_refused(body: bytes, at_fault: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        parse(STRUCTURED, body)
    assert caught.value.attribute == at_fault
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "data", "member"),
    [
        pytest.param("application/json", b'{"a" : 1.0}', b'"data":{"a" : 1.0}', id="json"),
        pytest.param("application/json", b"{", b'"data_base64":"ew=="', id="no-json"),
        pytest.param("application/json", b'"\xff"', b'"data_base64":"Iv8i"', id="json-no-utf-8"),
        pytest.param("text/plain", "é".encode(), '"data":"é"'.encode(), id="text"),
        pytest.param("text/plain; charset=latin-1", b"x", b'"data_base64":"eA=="', id="text-other-charset"),
        pytest.param("image/png", b"x", b'"data_base64":"eA=="', id="binary"),
    ],
)
def test_data_is_written_in_structured_mode(kind: str, data: bytes, member: bytes) -> None:
    event = _event({"datacontenttype": kind}, data)
    body = http_binding.structured(event, {"more": "x"})
    assert member in body
    message = parse(STRUCTURED, body)
    assert message.data == data
    assert message.attributes == {**event.attributes, "more": "x"}


def test_version_0_3_is_written_as_0_3() -> None:
    event = _event({"specversion": "0.3", "datacontenttype": "image/png"}, b"\xff")
    members = json.loads(http_binding.structured(event, {}))
    assert (members["data"], members["datacontentencoding"], members["specversion"]) == ("/w==", "base64", "0.3")
    coded = _event({"specversion": "0.3", "datacontenttype": "image/png", "datacontentencoding": "base64"}, b"/w==")
    members = json.loads(http_binding.structured(coded, {}))
    assert (members["data"], members["datacontentencoding"]) == ("/w==", "base64")


def test_an_event_without_data_has_no_data_member() -> None:
    members = json.loads(http_binding.structured(_event({}), {}))
    assert members == {**REQUIRED, "knativearrivaltime": ARRIVAL}


# Admission.


@pytest.mark.parametrize(
    ("sent", "ttl"),
    [
        (None, MAX_TTL),
        ("10", 9),
        ("5.7", 4),
        ("1000", MAX_TTL),
        ("256", MAX_TTL),
        ("255", 254),
        ("2", 1),
        ("+3", 2),
        ("rubbish", MAX_TTL),
        ("", MAX_TTL),
        ("nan", MAX_TTL),
        ("1_0", MAX_TTL),
        ("9" * 400, MAX_TTL),
        ("4294967296", MAX_TTL),
    ],
)
def test_the_time_to_live_counts_down(sent: str | None, ttl: int) -> None:
    event = _event({} if sent is None else {"knativebrokerttl": sent})
    assert event.ttl == ttl
    assert "knativebrokerttl" not in event.attributes
    assert b"knativebrokerttl" not in event.head


@pytest.mark.parametrize("sent", ["1", "0", "-5", "0.5"])
def test_an_event_that_went_round_too_often_is_refused(sent: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        _event({"knativebrokerttl": sent})
    assert caught.value.attribute == "knativebrokerttl"


def test_a_reply_has_one_pass_less_than_its_cause() -> None:
    message = Message({**REQUIRED, "knativebrokerttl": "200", "knativearrivaltime": "x"}, b"")
    event = admit_reply(message, ARRIVAL, cause_ttl=7)
    assert event.ttl == 6
    assert event.attributes == {**REQUIRED, "knativearrivaltime": ARRIVAL}
    with pytest.raises(InvalidEvent) as caught:
        admit_reply(message, ARRIVAL, cause_ttl=1)
    assert caught.value.attribute == "knativebrokerttl"


def test_the_head_is_ready_to_be_sent() -> None:
    event = _event({"ext": 'a "ü"%', "datacontenttype": "a/b; c=d"}, b"x", ((b"x-request-id", b"r s"),))
    assert _headers_of(event.head) == [
        (b"ce-specversion", b"1.0"),
        (b"ce-id", b"1"),
        (b"ce-source", b"/s"),
        (b"ce-type", b"t"),
        (b"ce-ext", b"a%20%22%C3%BC%22%25"),
        (b"content-type", b"a/b; c=d"),
        (b"ce-knativearrivaltime", ARRIVAL.encode()),
        (b"x-request-id", b"r s"),
    ]


@pytest.mark.parametrize(
    "passed", [(b"x-request-id", b"a\r\nx: y"), (b"x-request-id", b"a\nb"), (b"knative-\r\nx", b""), (b"x-b3-a", b"\0")]
)
def test_a_passed_header_cannot_bring_in_another(passed: tuple[bytes, bytes]) -> None:
    with pytest.raises(InvalidEvent):
        encode_head(REQUIRED, (passed,))
    with pytest.raises(InvalidEvent):
        admit(parse([*_binary(), passed], b""), ARRIVAL)


def test_a_dead_letter_has_the_three_error_attributes_once() -> None:
    event = _event({"knativeerrorcode": "404", "knativeerrordest": "old", "knativeerrorx": "kept"}, b"x")
    head = http_binding.dead_letter_head(event, "http://a/ü b", 500, b"y" * 2000)
    assert decode_head(head) == {
        **REQUIRED,
        "knativeerrorx": "kept",
        "knativearrivaltime": ARRIVAL,
        "knativeerrordest": "http://a/ü b",
        "knativeerrorcode": "500",
        "knativeerrordata": base64.b64encode(b"y" * 768).decode(),
    }
    assert head.count(b"ce-knativeerrorcode:") == 1


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ([(b"ce-specversion", b"1.0")], True),
        ([(b"CE-ID", b"1")], True),
        ([(b"Content-Type", b" Application/CloudEvents+json; charset=utf-8")], True),
        ([(b"content-type", b"application/json"), (b"content-length", b"4")], False),
        ([], False),
    ],
)
def test_an_event_is_recognised(headers: list[tuple[bytes, bytes]], *, wanted: bool) -> None:
    assert is_event(headers) is wanted
