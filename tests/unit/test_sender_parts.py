"""What the Sender decides without a network: how a URL is read, and what Retry-After asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.outcome import Outcome, Result
from dispatcher.response import KnownAnswers, ResponseReader, retry_after
from dispatcher.target import InvalidUrl, Origin, target_of
from eventing.delivery import Destination


@pytest.mark.parametrize(
    ("url", "origin", "request_line", "host"),
    [
        ("http://a.b", ("http", "a.b", 80), "POST / ", "a.b"),
        ("https://a.b", ("https", "a.b", 443), "POST / ", "a.b"),
        ("https://a.b:80/", ("https", "a.b", 80), "POST / ", "a.b:80"),
        ("http://a.b:80/x", ("http", "a.b", 80), "POST /x ", "a.b"),
        ("http://a.b:/x", ("http", "a.b", 80), "POST /x ", "a.b"),
        ("HTTP://A.B./X", ("http", "a.b.", 80), "POST /X ", "a.b."),
        ("http://a?b=c&d", ("http", "a", 80), "POST /?b=c&d ", "a"),
        ("http://a/%0d%0a//..?#f", ("http", "a", 80), "POST /%0d%0a//.. ", "a"),
        ("http://[::1]:8080/", ("http", "::1", 8080), "POST / ", "[::1]:8080"),
        ("http://[2001:DB8::1]", ("http", "2001:db8::1", 80), "POST / ", "[2001:db8::1]"),
        ("http://under_score.xn--bcher-kva", ("http", "under_score.xn--bcher-kva", 80), "POST / ", None),
    ],
)
def test_a_url_is_read(url: str, origin: tuple[str, str, int], request_line: str, host: str | None) -> None:
    """Ports have their defaults, an empty path is /, path and query are kept as they are, the fragment is not sent."""
    target = target_of(Destination(url, "CA"), "agent")
    assert target.origin == Origin(*origin, "CA")
    expected = f"{request_line}HTTP/1.1\r\nhost: {host or origin[1]}\r\nuser-agent: agent\r\n"
    assert target.start == expected.encode()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.b/c",
        "/c",
        "http:",
        "http://",
        "http:///x",
        "http://:80/",
        "ftp://a/",
        "http://a b/",
        "http://a/ b",
        "http://a/\r\nx: y",
        "http://a/\n",
        "http://a\t/",
        "http://a%0d%0ab/",
        "http://ü/",
        "http://a/ü",
        "http://user@a/",
        "http://user:secret@a/",
        "http://a:0/",
        "http://a:65536/",
        "http://a:99999999999999999999/",
        "http://a:x/",
        "http://a:1:2/",
        "http://::1/",
        "http://[::1/",
        "http://[::1]x/",
        "http://x[::1]/",
        "http://[::1%25eth0]/",
        "http://[v1.x]/",
        "http://[]/",
        "http://a..b/",
        "http://.a/",
        "http://-a/",
        "http://" + "a" * 64 + "/",
        "http://" + "a." * 127 + "a/",
        "http://a\\b/",
    ],
)
def test_a_url_that_cannot_be_posted_to_is_refused(url: str) -> None:
    """Nothing is guessed, and no line break, user name or odd host gets past."""
    with pytest.raises(InvalidUrl):
        target_of(Destination(url), "agent")


def test_a_secret_in_a_url_is_not_repeated() -> None:
    """The refusal of a URL with a password does not show it."""
    with pytest.raises(InvalidUrl) as caught:
        target_of(Destination("http://user:secret@a/"), "agent")
    assert "secret" not in str(caught.value)


@given(st.text() | st.from_regex(r"https?://[^\s]{0,20}", fullmatch=True))
def test_any_url_is_read_or_refused(url: str) -> None:
    """No URL raises anything else, and what is read makes exactly three lines."""
    try:
        target = target_of(Destination(url), "agent")
    except InvalidUrl:
        return
    assert target.start.count(b"\n") == target.start.count(b"\r") == 3
    assert 1 <= target.origin.port <= 65535
    target.origin.host.encode("idna")


NOW = 784111777.0
"""Sun, 06 Nov 1994 08:49:37 GMT: the example of RFC 9110, section 5.6.7."""


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0.0),
        (b"120", 120.0),
        (b" 7 ", 7.0),
        (b"Sun, 06 Nov 1994 08:50:07 GMT", 30.0),
        (b"Sunday, 06-Nov-94 08:50:07 GMT", 30.0),
        (b"Sun Nov  6 08:50:07 1994", 30.0),
        (b"Sun, 06 Nov 1994 08:50:07 -0000", 30.0),
        (b"Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        (b"", None),
        (b"-1", None),
        (b"1.5", None),
        (b"soon", None),
        (b"\xb2", None),
        (b"9" * 5000, None),
        (b"Sun, 99 Nov 1994 08:50:07 GMT", None),
    ],
)
def test_retry_after(value: bytes, seconds: float | None) -> None:
    """Seconds and the three forms of an HTTP date; a date in the past means now, nonsense means nothing."""
    assert retry_after(value, NOW) == seconds


@given(st.binary())
def test_any_retry_after_is_read_or_ignored(value: bytes) -> None:
    """No value raises, and none asks for less than nothing."""
    seconds = retry_after(value, NOW)
    assert seconds is None or seconds >= 0


ANSWER = (
    b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nX-A: 1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;e\r\nde\r\n0\r\nt: 1\r\n\r\n"
)


@given(st.lists(st.integers(1, len(ANSWER) - 1)))
def test_an_answer_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    """Where the network cuts an answer makes no difference, and a connection serves again."""
    reader = ResponseReader(1000, 1000, KnownAnswers())
    for _ in range(2):
        reader.reset()
        ends = [*sorted(set(cuts)), len(ANSWER)]
        parts = [ANSWER[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
        assert [reader.feed(part) for part in parts] == [False] * (len(parts) - 1) + [True]
        headers = ((b"x-a", b"1"), (b"transfer-encoding", b"chunked"))
        assert reader.outcome(0.0) == Outcome(Result.ANSWERED, 200, headers, b"abcde")
        assert reader.reusable


@given(st.lists(st.binary()))
def test_any_bytes_are_an_outcome_or_not_yet(parts: list[bytes]) -> None:
    """Whatever comes, reading it raises nothing."""
    reader = ResponseReader(100, 100, KnownAnswers())
    done = False
    for part in parts:
        done = done or reader.feed(part)
    if done or reader.end():
        assert reader.outcome(0.0).result in {Result.ANSWERED, Result.BAD_RESPONSE, Result.BODY_TOO_LARGE}


ANSWERS = st.sampled_from(
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 202 Accepted\r\ndate: Wed, 25 Nov 2026 09:00:00 GMT\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no",
        b"nonsense\r\n\r\n",
    ]
)


@given(st.lists(ANSWERS, max_size=12))
def test_a_known_answer_is_read_as_it_was_the_first_time(answers: list[bytes]) -> None:
    """A reader that remembers answers says what one that has never seen any says."""
    known = KnownAnswers()
    for answer in answers:
        told = []
        for reader in (ResponseReader(100, 100, known), ResponseReader(100, 100, KnownAnswers())):
            complete = reader.feed(answer)
            told.append((complete, reader.reusable, reader.started, reader.outcome(1.0) if complete else None))
        assert told[0] == told[1]


def test_answers_are_remembered_up_to_a_number_and_a_length() -> None:
    known = KnownAnswers()
    reader = ResponseReader(10_000, 10_000, known)
    answers = [b"HTTP/1.1 204 No Content\r\nx: %d\r\n\r\n" % number for number in range(KnownAnswers.MOST + 1)]
    for answer in answers:
        reader.reset()
        assert reader.feed(answer)
    assert known.get(answers[0]) is None
    assert known.get(answers[-1]) is not None
    long = b"HTTP/1.1 204 No Content\r\nx: %b\r\n\r\n" % (b"x" * KnownAnswers.LONGEST)
    reader.reset()
    assert reader.feed(long)
    assert known.get(long) is None
