"""Reading answers off a connection: one after another, within bounds, with httptools. No I/O."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from dispatcher.outcome import Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

_MAX_SECONDS_DIGITS = 10
"""`Retry-After` in more digits than this (over 300 years) is not a number that anyone meant."""


class _Excess(Exception):
    """Another message begins where the answer has ended."""


class KnownAnswers:
    """Short answers that came whole and leave the connection reusable, by their bytes.

    A subscriber answers most requests alike, until the `date` in it changes, and what the same bytes mean from the first
    to the last is the same. One for all connections of a Sender.
    """

    MOST: Final = 256
    LONGEST: Final = 512

    def __init__(self) -> None:
        self._answers: dict[bytes, tuple[int, Sequence[tuple[bytes, bytes]], Sequence[bytes]]] = {}

    def get(self, data: bytes) -> tuple[int, Sequence[tuple[bytes, bytes]], Sequence[bytes]] | None:
        """Status, headers and the pieces of the body of the answer that `data` is, where that is known."""
        return self._answers.get(data)

    def add(self, data: bytes, status: int, headers: Sequence[tuple[bytes, bytes]], body: Sequence[bytes]) -> None:
        """Remember that `data` is this answer."""
        if len(data) <= self.LONGEST:
            if len(self._answers) >= self.MOST:
                self._answers.clear()
            self._answers[data] = (status, tuple(headers), tuple(body))


class ResponseReader:
    """Reads the answer to one request at a time.

    `feed` what comes until it returns True, then ask for the `outcome`; `reset` before the next request.
    Interim answers (1xx) are skipped. What is held in memory is bounded by the two limits (bytes) and one read.
    """

    def __init__(self, max_header_bytes: int, max_body_bytes: int, known: KnownAnswers) -> None:
        self._max_header_bytes = max_header_bytes
        self._max_body_bytes = max_body_bytes
        self._known = known
        self._parser = HttpResponseParser(self)
        self.reset()

    def reset(self) -> None:
        """Forget the last answer. Only after one that left the connection `reusable`."""
        self.started = False
        self.reusable = False
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_bytes = 0
        self._between = 0
        self._headers_done = False
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._complete = False
        self._fault: tuple[Result, str] | None = None

    def feed(self, data: bytes) -> bool:
        """Take what was read. True when the answer is complete, or when it cannot be taken."""
        if self.started:
            return self._parse(data)
        self.started = True
        known = self._known.get(data)
        if known is not None:
            self._status, headers, body = known
            self._headers.extend(headers)
            self._body.extend(body)
            self._headers_done = self._complete = self.reusable = True
            return True
        complete = self._parse(data)
        if complete and self.reusable and self._fault is None:
            self._known.add(data, self._status, self._headers, self._body)
        return complete

    def _parse(self, data: bytes) -> bool:
        before = self._body_bytes
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self.reusable = False
            if not self._complete and self._fault is None:
                self._fault = (Result.BAD_RESPONSE, _garbage(error, data))
        # What is no body (a header that never ends, trailers, chunk extensions, interim answers) is bounded by how
        # much of it comes in a row: the parser collects it out of our sight.
        self._between = self._between + len(data) if self._body_bytes == before else 0
        if self._between > self._max_header_bytes and not self._complete:
            self._refuse_header()
        return self._complete or self._fault is not None

    def end(self) -> bool:
        """The peer has ended its side. True when that completes the answer: a body that nothing else delimits."""
        if not self._headers_done or self._complete or self._fault is not None:
            return False
        fields = dict(self._headers)
        if b"content-length" in fields or b"chunked" in fields.get(b"transfer-encoding", b"").lower():
            return False
        self._complete = True
        return True

    def outcome(self, duration: float) -> Outcome:
        """What came of it, once `feed` or `end` returned True."""
        if self._fault is not None:
            result, detail = self._fault
            return Outcome(result, duration=duration, detail=detail)
        return Outcome(
            Result.ANSWERED,
            self._status,
            tuple(self._headers),
            b"".join(self._body),
            self._retry_after() if self._status >= 300 else None,
            duration,
        )

    def _retry_after(self) -> float | None:
        asked = next((value for name, value in self._headers if name == b"retry-after"), None)
        return None if asked is None else retry_after(asked, time.time())

    def progress(self) -> str:
        """How far the answer came, as the end of a sentence."""
        if not self.started:
            return "before any byte of an answer"
        if not self._headers_done:
            return "in the head of its answer"
        return f"after {self._body_bytes} bytes of the body of its {self._status} answer"

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._complete:
            raise _Excess

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > self._max_header_bytes:
            self._refuse_header()
        elif not self._headers_done:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        if self._status >= 200:
            self._headers_done = True
            self.reusable = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes <= self._max_body_bytes:
            self._body.append(body)
        elif self._status >= 300:
            # A refusal counts by its status, however long its page is: the beginning of the body will do.
            self._body.append(body[: self._max_body_bytes - self._body_bytes])
            self._complete = True
            self.reusable = False
        elif self._fault is None:
            self._body.clear()
            self._fault = (
                Result.BODY_TOO_LARGE,
                f"the body of the {self._status} answer has more than {self._max_body_bytes} bytes",
            )

    def on_message_complete(self) -> None:
        if self._headers_done:
            self._complete = True
        else:
            self._headers.clear()

    def _refuse_header(self) -> None:
        if self._fault is None:
            self._headers.clear()
            detail = f"the headers of the answer have more than {self._max_header_bytes} bytes"
            self._fault = (Result.BODY_TOO_LARGE, detail)


def retry_after(value: bytes, now: float) -> float | None:
    """Seconds from `now` (seconds since the epoch) that `Retry-After` asks for (RFC 9110, 10.2.3); None if unreadable."""
    text = value.decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) <= _MAX_SECONDS_DIGITS else None
    moment = _http_date(text)
    return None if moment is None else max(0.0, moment.timestamp() - now)


def _http_date(text: str) -> datetime | None:
    # Rare, and their imports are not free.
    from datetime import UTC  # noqa: PLC0415 - see above
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - see above

    try:
        moment = parsedate_to_datetime(text)
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _garbage(error: Exception, data: bytes) -> str:
    if isinstance(error, HttpParserUpgrade):
        return "the answer was 101, a change of protocol that Penstock did not ask for"
    return f"what came is not HTTP ({error}), it begins with {data[:40]!r}: check the port and the scheme"
