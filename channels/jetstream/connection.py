"""The connection to NATS: requests with a limit, many replies to one request, publishing with many in flight.

It reconnects by itself, for ever. While it is away every call raises ChannelUnavailable at once, and what was published
and not yet acknowledged raises AppendAmbiguous: nothing waits for the network.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.js.errors import APIError, NoStreamResponseError

from channels.errors import ChannelUnavailable, StoreError
from channels.jetstream.errors import mapped
from channels.jetstream.tasks import within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from nats.aio.msg import Msg

    from channels.jetstream.address import Address

LIMIT: Final = 3.0
"""Seconds that NATS has for an answer."""

_CONNECT_LIMIT: Final = 5.0
"""Seconds that servers have to take the first connection; after that a person should look."""

_PING_INTERVAL: Final = 3
"""Seconds between pings: a server that hangs is left after three of them."""

_OLDEST: Final = (2, 12)
_IN_FLIGHT: Final = 16_384
"""Messages that may be published and not acknowledged; more are refused."""

_INBOX_MESSAGES: Final = 65_536
_INBOX_BYTES: Final = 64 << 20
"""What may wait for the event loop in one inbox. More is dropped by the client, which a follower finds out."""


@asynccontextmanager
async def connected(address: Address) -> AsyncIterator[Connection]:
    """A connection. Raises StoreError when no server takes it, or one that is too old."""
    connection = Connection(address)
    try:
        await connection.open()
        yield connection
    finally:
        await connection.close()


class Connection:
    """Made by `connected`."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._client = Client()
        self._waiting: dict[str, _Replies] = {}
        self._inbox = ""
        self._requests = 0
        self._listeners: list[Callable[[], None]] = []
        self._problem = ""

    async def open(self) -> None:
        shown = self.address.shown
        try:
            await within(_CONNECT_LIMIT, self._connect())
        except (TimeoutError, nats.errors.Error, OSError, ValueError) as error:
            detail = self._problem or str(error) or "no answer"
            raise StoreError(f"--channel {shown}: cannot connect to NATS: {detail}") from error
        version = self._client.connected_server_version
        if (version.major, version.minor) < _OLDEST:
            raise StoreError(
                f"--channel {shown}: the server is NATS {version.major}.{version.minor}, and atomic batches came "
                "with 2.12: upgrade it"
            )
        self._inbox = self._client.new_inbox()
        # Without limits: each request bounds its own replies.
        await self._client.subscribe(f"{self._inbox}.*", cb=self._reply, pending_msgs_limit=0, pending_bytes_limit=0)

    async def _connect(self) -> None:
        await self._client.connect(
            servers=list(self.address.servers),
            name="penstock",
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.2,  # type: ignore[arg-type]  # any number of seconds will do
            connect_timeout=2,
            ping_interval=_PING_INTERVAL,
            max_outstanding_pings=2,
            error_cb=self._trouble,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
            **self.address.login,
        )

    async def close(self) -> None:
        """Leave. What still waits for an answer is told so."""
        with suppress(TimeoutError):
            await within(LIMIT, self._client.close())
        await self._disconnected()

    @property
    def max_payload(self) -> int:
        """Bytes that a message may have, headers included."""
        return self._client.max_payload

    def on_reconnect(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever the connection is there again."""
        self._listeners.append(listener)

    def forget(self, listener: Callable[[], None]) -> None:
        """Call it no more."""
        self._listeners.remove(listener)

    # --- requests -------------------------------------------------------------------------------------------------

    async def api(self, subject: str, request: object = None, *, wrote: bool = False) -> dict[str, Any]:
        """Ask the JetStream API. Raises ChannelError: without an answer AppendAmbiguous where it `wrote`."""
        payload = msgspec.json.encode(request) if request is not None else b""
        return await self._ask(f"$JS.API.{subject}", payload, None, wrote=wrote)

    async def store(self, subject: str, value: bytes, headers: Mapping[str, str] | None = None) -> int:
        """Publish a message, or the last one of a batch; its sequence once that is durable. Raises ChannelError.

        What is called first is sent first, and any number may be under way.
        """
        answer = await self._ask(subject, value, headers, wrote=True)
        return int(answer["seq"])

    async def send(self, subject: str, value: bytes, headers: Mapping[str, str]) -> None:
        """Publish a message of a batch, which is acknowledged with the last one. Raises ChannelError."""
        self._check()
        with mapped(subject):
            await self._client.publish(subject, value, headers=dict(headers))

    async def get(self, stream: str, request: Mapping[str, object]) -> list[Msg]:
        """Messages of a stream, by direct get in a batch. Raises ChannelError.

        Any replica may answer: what it returns is a beginning of the stream, not always the newest one.
        """
        subject = f"$JS.API.DIRECT.GET.{stream}"
        gathering = _Gathering()
        token = await self._begin(subject, msgspec.json.encode(request), None, gathering)
        try:
            with mapped(subject):
                async with asyncio.timeout(LIMIT):
                    return await gathering.done
        finally:
            del self._waiting[token]

    async def subscribe(self, callback: Callable[[Msg], None]) -> Inbox:
        """An inbox of one's own. Raises ChannelError."""
        self._check()

        async def feed(message: Msg) -> None:
            callback(message)

        inbox = self._client.new_inbox()
        with mapped("subscribe"):
            subscription = await self._client.subscribe(
                inbox, cb=feed, pending_msgs_limit=_INBOX_MESSAGES, pending_bytes_limit=_INBOX_BYTES
            )

        async def close() -> None:
            if not self._client.is_closed:
                await subscription.unsubscribe()

        return Inbox(inbox, close)

    async def _ask(
        self, subject: str, payload: bytes, headers: Mapping[str, str] | None, *, wrote: bool
    ) -> dict[str, Any]:
        ack = _Ack()
        token = await self._begin(subject, payload, headers, ack)
        try:
            with mapped(subject, wrote=wrote):
                async with asyncio.timeout(LIMIT):
                    return await ack.done
        finally:
            del self._waiting[token]

    async def _begin(self, subject: str, payload: bytes, headers: Mapping[str, str] | None, replies: _Replies) -> str:
        self._check()
        self._requests += 1
        token = str(self._requests)
        self._waiting[token] = replies
        try:
            with mapped(subject):
                async with asyncio.timeout(LIMIT):
                    await self._client.publish(
                        subject, payload, reply=f"{self._inbox}.{token}", headers=dict(headers) if headers else None
                    )
        except BaseException:
            del self._waiting[token]
            raise
        return token

    def _check(self) -> None:
        if not self._client.is_connected:
            detail = f" ({self._problem})" if self._problem else ""
            raise ChannelUnavailable(f"there is no connection to {self.address.shown}{detail}")
        if len(self._waiting) >= _IN_FLIGHT:
            raise ChannelUnavailable(f"{self.address.shown} is {_IN_FLIGHT} answers behind")

    # --- callbacks of the client ----------------------------------------------------------------------------------

    async def _reply(self, message: Msg) -> None:
        replies = self._waiting.get(message.subject.rpartition(".")[2])
        if replies is not None and not replies.done.done():
            replies.feed(message)

    async def _trouble(self, error: Exception) -> None:
        self._problem = str(error) or type(error).__name__

    async def _disconnected(self) -> None:
        for replies in self._waiting.values():
            if not replies.done.done():
                replies.done.set_exception(nats.errors.StaleConnectionError())

    async def _reconnected(self) -> None:
        self._problem = ""
        for listener in list(self._listeners):
            listener()


class Inbox(msgspec.Struct, frozen=True):
    """A subject of our own that somebody may send to; `close` ends it."""

    subject: str
    close: Callable[[], Awaitable[None]]


class _Replies(Protocol):
    """What waits for replies until it is `done`."""

    done: asyncio.Future[Any]

    def feed(self, message: Msg) -> None: ...


class _Ack:
    """One reply in JSON: of the API, or the acknowledgement of a stream."""

    def __init__(self) -> None:
        self.done: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def feed(self, message: Msg) -> None:
        if not message.data:
            # No responders: a status without a body.
            self.done.set_exception(NoStreamResponseError())
            return
        answer = msgspec.json.decode(message.data)
        if "error" in answer:
            self.done.set_exception(_error_of(answer["error"]))
        else:
            self.done.set_result(answer)


class _Gathering:
    """The replies to one batched direct get, up to the one that ends them."""

    def __init__(self) -> None:
        self.done: asyncio.Future[list[Msg]] = asyncio.get_running_loop().create_future()
        self._messages: list[Msg] = []
        self._last = "0"

    def feed(self, message: Msg) -> None:
        headers = message.headers or {}
        status = headers.get("Status")
        if headers.get("Nats-Last-Sequence", self._last) != self._last:
            self._fail("a part of the answer was dropped on the way")
        elif status is None:
            self._last = headers["Nats-Sequence"]
            self._messages.append(message)
        elif status in ("204", "404"):
            self.done.set_result(self._messages)
        elif status == "503":
            self.done.set_exception(NoStreamResponseError())
        else:
            self._fail(f"{status} {headers.get('Description', '')}")

    def _fail(self, why: str) -> None:
        self.done.set_exception(nats.errors.Error(why))


def _error_of(error: Mapping[str, Any]) -> APIError:
    return APIError(error.get("code"), error.get("description"), error.get("err_code"))
