"""What came of one attempt: a value for each way in which it can end."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Result(StrEnum):
    """The ways in which an attempt ends. Everything but ANSWERED means that no complete answer came."""

    ANSWERED = "answered"
    """A complete response: `status` says which."""
    INVALID_URL = "invalid-url"
    """The destination is no http(s) URL that can be used."""
    DNS = "dns"
    """The host name could not be resolved."""
    REFUSED = "refused"
    """No connection could be made: refused, or no route."""
    CONNECT_TIMEOUT = "connect-timeout"
    """No connection was made in time."""
    TLS = "tls"
    """The TLS handshake failed: an unknown CA, a wrong name, no common version."""
    RESET_BEFORE = "reset-before"
    """The connection broke before the whole request was written: the subscriber cannot have taken it."""
    RESET_AFTER = "reset-after"
    """The connection broke after the request was written and before a complete answer: it may have been taken."""
    TIMEOUT = "timeout"
    """The request was written and no complete answer came within the delivery's timeout."""
    BAD_RESPONSE = "bad-response"
    """What came is not HTTP."""
    BODY_TOO_LARGE = "body-too-large"
    """The answer's body is longer than Penstock takes."""


class Outcome(msgspec.Struct, frozen=True):
    """What came of one attempt. `detail` is one sentence for people, empty for a plain answer.

    `status`, `headers` (names in lower case, in their order) and `body` are set for ANSWERED only. `retry_after` is what
    the answer asked for, in seconds from now. `duration` is in seconds, from the first byte out to the last byte in.
    """

    result: Result
    status: int | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    retry_after: float | None = None
    duration: float = 0.0
    detail: str = ""

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status <= 299
