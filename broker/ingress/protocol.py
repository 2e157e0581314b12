"""The ingress below ASGI: POSTs are taken where uvicorn has parsed them, before a request cycle is made.

An ASGI cycle (scope, receive, send, flow control) costs about as much as everything else that the ingress does. So this
subclass of uvicorn's httptools protocol gives a plain POST to the core itself, and leaves every other request to uvicorn
and the application: other methods, HTTP/1.0, upgrades, `Expect: 100-continue`, and what is pipelined behind a request that
is not answered yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from broker.ingress.answers import Answer, too_large
from broker.ingress.core import answer_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from broker.ingress.core import Ingress
    from channels.records import Appended
    from eventing.routing import ObjectName

_SPECIAL = frozenset({b"expect", b"k-network-probe"})
"""Headers that make a POST one for the application."""


class _Post:
    """A POST on its way. It stands in uvicorn's place for a cycle, with what the base class asks of one."""

    __slots__ = (
        "body",
        "disconnected",
        "keep_alive",
        "limit",
        "message_event",
        "response_complete",
        "size",
        "taken",
        "target",
    )

    def __init__(self, target: ObjectName | Answer, limit: int) -> None:
        self.target = target
        self.limit = limit
        self.body: list[bytes] = []
        self.size = 0
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False
        self.message_event = _NO_EVENT
        self.taken: asyncio.Future[Sequence[Appended]] | None = None


class _NoEvent:
    """Nobody waits for the message of a POST: it is taken when it is complete."""

    def set(self) -> None:
        """Nothing to wake."""


_NO_EVENT = _NoEvent()


class IngressProtocol(HttpToolsProtocol):
    """One connection. `rendered` is shared by all of a server: the bytes of answers, as long as the date in them holds."""

    def __init__(self, ingress: Ingress, rendered: Rendered, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self._ingress = ingress
        self._rendered = rendered
        self._post: _Post | None = None
        self._special = False
        self._quiet_since: float | None = None

    # --- what the parser calls ------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a request. Its scope is made later, and only if it is one for the application."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._special = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, its name in lower case."""
        name = name.lower()
        self.headers.append((name, value))
        if name in _SPECIAL:
            self._special = True
            self.expect_100_continue = self.expect_100_continue or value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        """Take a plain POST, or hand the request to uvicorn."""
        if not self._is_plain_post():
            self._post = None
            url, headers, expect = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()
            self.url, self.headers, self.expect_100_continue = url, headers, expect
            self.scope["headers"] = headers
            super().on_headers_complete()
            return
        target = self._ingress.target_of(self.url, self.headers)
        limit = 0 if isinstance(target, Answer) else self._ingress.body_limit(target)
        self._post = post = _Post(target, limit)
        self.cycle = post  # type: ignore[assignment] # it has what the base class asks of a cycle
        post.keep_alive = self.parser.should_keep_alive()

    def _is_plain_post(self) -> bool:
        parser = self.parser
        return (
            parser.get_method() == b"POST"
            and not self._is_busy()
            and parser.get_http_version() == "1.1"
            and self.url[:1] == b"/"
            and not self._special
            and not parser.should_upgrade()
        )

    def _is_busy(self) -> bool:
        """Whether an earlier request of this connection has no answer yet."""
        cycle: Any = self.cycle  # uvicorn declares it to be there always, and begins with None
        return cycle is not None and not cycle.response_complete

    def on_body(self, body: bytes) -> None:
        """Keep the body up to the limit; past it the answer goes out at once, and the rest is read and dropped."""
        post = self._post
        if post is None:
            super().on_body(body)
        elif not post.response_complete:
            post.size += len(body)
            if isinstance(post.target, Answer):
                return
            if post.size > post.limit:
                self._respond(post, too_large(post.limit))
            else:
                post.body.append(body)

    def on_message_complete(self) -> None:
        """The request is whole: take the event."""
        post = self._post
        if post is None:
            super().on_message_complete()
        elif isinstance(post.target, Answer):
            self._respond(post, post.target)
        elif not post.response_complete:
            body = post.body[0] if len(post.body) == 1 else b"".join(post.body)
            taken = self._ingress.take(post.target, self.headers, body)
            if isinstance(taken, Answer):
                self._respond(post, taken)
            else:
                # uvicorn's shutdown waits for what is in this set. No task is made of it: one costs 20 µs.
                self.tasks.add(taken)  # type: ignore[arg-type] # a task is a future, and only a future's part is used
                post.taken = taken
                taken.add_done_callback(self._stored)

    # --- answering ------------------------------------------------------------------------------------------------

    def _stored(self, taken: asyncio.Future[Sequence[Appended]]) -> None:
        self.tasks.discard(taken)
        post = self._post
        # Only one POST of a connection is under way, and the next begins after its answer.
        if post is not None and post.taken is taken:
            self._respond(post, answer_of(taken))

    def _respond(self, post: _Post, answer: Answer) -> None:
        if post.response_complete or post.disconnected:
            return
        post.response_complete = True
        data = self._rendered.bytes_of(answer, self.server_state.default_headers)
        if not post.keep_alive:
            head, _, rest = data.partition(b"\r\n")
            data = head + b"\r\nconnection: close\r\n" + rest
        self.transport.write(data)
        if not post.keep_alive:
            self.transport.close()
        self.on_response_complete()

    # --- keep-alive -----------------------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """Go on with what is pipelined, or begin to wait for the next request."""
        self._quiet_since = self.loop.time()
        if self.pipeline or self.timeout_keep_alive_task is None:
            super().on_response_complete()
        else:
            # The timer runs already. One for each request would cost more than the answer: it looks again instead.
            self.server_state.total_requests += 1
            self.flow.resume_reading()

    def _unset_keepalive_if_required(self) -> None:
        """Data has come, or the connection is gone."""
        self._quiet_since = None
        if self.transport.is_closing():
            super()._unset_keepalive_if_required()

    def connection_lost(self, exc: Exception | None) -> None:
        """End with the connection."""
        super().connection_lost(exc)
        super()._unset_keepalive_if_required()

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if it has been quiet for long enough, else look again when it may be."""
        self.timeout_keep_alive_task = None
        if self._quiet_since is None:
            # A request is under way: its answer sets the timer again.
            return
        left = self._quiet_since + self.timeout_keep_alive - self.loop.time()
        if left <= 0.01:
            super().timeout_keep_alive_handler()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)


class Rendered:
    """Answers as bytes. They are made again when uvicorn makes new default headers, for the date in them: once a second."""

    def __init__(self) -> None:
        self._defaults: list[tuple[bytes, bytes]] | None = None
        self._known: dict[int, tuple[Answer, bytes]] = {}

    def bytes_of(self, answer: Answer, defaults: list[tuple[bytes, bytes]]) -> bytes:
        """The whole answer, status line to body."""
        if defaults is not self._defaults:
            self._defaults = defaults
            self._known.clear()
        known = self._known.get(id(answer))
        # The answer is kept beside its bytes, so that its id is not given to another one meanwhile.
        if known is not None and known[0] is answer:
            return known[1]
        lines = b"".join(b"%b: %b\r\n" % header for header in (*defaults, *answer.headers))
        data = STATUS_LINE[answer.status] + lines + b"\r\n" + answer.body
        if not answer.body:
            self._known[id(answer)] = (answer, data)
        return data
