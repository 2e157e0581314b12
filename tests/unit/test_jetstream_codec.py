"""Events as NATS messages and back, times of the server, and the keys of the bucket."""

from __future__ import annotations

import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from channels.jetstream.codec import event_from, headers_of, nanoseconds_of
from channels.jetstream.names import DeliveryKey, log_key, stream_name, subject_of, token
from channels.records import DeliveryState, LogName
from eventing.http_binding import event_of
from tests.contract.harness import BROKER, a_delivery


def through_nats(headers: dict[str, str]) -> dict[str, str]:
    """What a client reads of headers that a client has written: it trims values, and puts spaces for line breaks."""
    lines = [f"{name.strip()}: {' '.join(value.strip().splitlines())}\r\n" for name, value in headers.items()]
    return Client._parse_header_lines("".join(lines).encode())


HEADS = {
    "plain": b"ce-specversion: 1.0\r\nce-id: 1\r\ncontent-type: text/plain; charset=utf-8\r\n",
    "encoded": b"ce-id: %20a%E2%82%AC\r\n",
    "passed through": b"ce-id: 1\r\ntraceparent: 00-ab-cd-01\r\nx-b3-traceid: 7\r\n",
    "a header twice": b"ce-id: 1\r\ntracestate: a=1\r\ntracestate: b=2\r\n",
    "an empty value": b"ce-id: 1\r\nx-request-id: \r\n",
    "spaces around a value": b"ce-id: 1\r\nknative-x:  a \r\n",
    "bytes that are no ASCII": b"ce-id: 1\r\nknative-x: caf\xe9\r\n",
    "a colon in a value": b"ce-id: 1\r\nknative-x: a: b\r\n",
    "none": b"",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("ttl", [255, 3])
def test_an_event_comes_back(head: bytes, ttl: int) -> None:
    """Head, data and ttl of an event come back byte for byte."""
    sent = event_of(head, b"\x00\xff", ttl)
    assert event_from(through_nats(headers_of(sent)), b"\x00\xff") == sent


@given(
    st.lists(st.tuples(st.sampled_from(["ce-id", "x-request-id", "tracestate"]), st.binary(max_size=12)), max_size=5),
)
def test_any_head_comes_back(lines: list[tuple[str, bytes]]) -> None:
    """Whatever is passed through, without a line break, comes back."""
    head = b"".join(
        b"%b: %b\r\n"
        % (name.encode(), b"x" if name == "ce-id" else bytes(value).replace(b"\r", b"").replace(b"\n", b""))
        for name, value in lines
    )
    sent = event_of(head, b"", 255)
    assert event_from(through_nats(headers_of(sent)), None) == sent


def test_a_message_of_the_cloudevents_binding() -> None:
    """Anybody reads the attributes as `ce-` headers, and the media type as `content-type`."""
    sent = event_of(HEADS["plain"], b"", 255)
    assert headers_of(sent) == {"ce-specversion": "1.0", "ce-id": "1", "content-type": "text/plain; charset=utf-8"}


@pytest.mark.parametrize(
    ("time", "nanoseconds"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("2026-11-25T15:07:57.478065192Z", 1_795_619_277_478_065_192),
        ("2026-11-25T15:07:57.4Z", 1_795_619_277_400_000_000),
    ],
)
def test_times_of_the_server(time: str, nanoseconds: int) -> None:
    assert nanoseconds_of(time) == nanoseconds


@given(st.text(max_size=20), st.text(max_size=20))
def test_tokens(one: str, other: str) -> None:
    """Any text is a token of its own, with nothing in it that a key gives a meaning to."""
    assert set(token(one)) <= set(string.ascii_letters + string.digits + "-_=")
    assert token(one)
    assert (token(one) == token(other)) is (one == other)


def test_the_names_of_two_brokers_are_apart() -> None:
    """Names that read alike are different streams, and so is a Broker made again."""
    names = [LogName("a", "b-c", "1"), LogName("a-b", "c", "1"), LogName("a", "b.c", "1"), LogName("a", "b-c", "2")]
    assert len({stream_name("p", name) for name in names}) == len(names)
    assert len({subject_of("p", name) for name in names}) == len(names)
    assert "." not in stream_name("p", names[2])
    assert len(stream_name("p" * 32, LogName("n" * 63, "b" * 253, "uid"))) <= 255


@pytest.mark.parametrize("due", [0.0, 99.25, 1_795_619_277.123456])
def test_keys_of_a_delivery(due: float) -> None:
    """The keys tell what lists and orders need; a dead delivery is not listed for its Trigger."""
    delivery = replace(a_delivery(4, "a trigger"), due=due)
    key = DeliveryKey.of(delivery)
    assert DeliveryKey.parse(key.record) == key
    assert key.parked is not None
    assert DeliveryKey.from_parked(key.parked, "shop") == key
    ref = DeliveryKey.parse_parked(key.parked)
    assert (ref.id, ref.due, ref.size) == (delivery.id, due, delivery.event.size)
    assert key.log == log_key(BROKER)
    assert DeliveryKey.of(replace(delivery, state=DeliveryState.DEAD)).parked is None
