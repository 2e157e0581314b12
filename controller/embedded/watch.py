"""Watches: each is a cursor on the store's log, so a slow one costs no memory and ends with 410 once compacted away."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from controller.embedded import status
from controller.embedded.calls import form_of
from controller.embedded.resources import selection_of
from controller.embedded.status import ApiError, Cause, invalid_options
from controller.embedded.store import RevisionExpired
from controller.embedded.table import partial, table

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from datetime import datetime

    from starlette.types import Receive, Send

    from controller.embedded.calls import Call
    from controller.embedded.database import Record
    from controller.embedded.selectors import Selection
    from controller.embedded.store import Store
    from controller.objects.kind import JsonObject

BOOKMARK_SECONDS = 60.0
_LONGEST_SECONDS = 1800.0


class Watches:
    """Serves watches until the client leaves, its timeout passes, the store closes or `end` is called."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._streams: set[asyncio.Task[None]] = set()
        self._ended = False

    def end(self) -> None:
        """End all watches, those to come too: call it before the server waits for its connections to finish."""
        self._ended = True
        for stream in self._streams:
            stream.cancel()

    async def serve(self, call: Call, receive: Receive, send: Send) -> None:
        """Raises ApiError for a watch that cannot be; one that ends early says so in an ERROR event."""
        watch = self._watch(call)
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-cache, private")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        # The head goes out with the first body message, however empty: the client must know that the watch stands.
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        async with asyncio.TaskGroup() as tasks:
            stream = tasks.create_task(_stream(watch, send), name=f"watch {call.kind.resource}")
            listener = tasks.create_task(_disconnected(receive), name=f"watch {call.kind.resource} disconnect")
            self._streams.add(stream)
            try:
                if self._ended:
                    stream.cancel()
                await asyncio.wait({stream, listener}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._streams.discard(stream)
                stream.cancel()
                listener.cancel()
        if listener.cancelled():
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _watch(self, call: Call) -> _Watch:
        if "sendInitialEvents" in call.query:
            text = "Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
            raise invalid_options("ListOptions", [Cause("sendInitialEvents", "FieldValueForbidden", text)])
        seconds = call.number("timeoutSeconds") or _LONGEST_SECONDS * random.uniform(1, 2)  # noqa: S311 - spreads load
        now = asyncio.get_running_loop().time()
        return _Watch(
            call=call,
            store=self._store,
            clock=self._clock,
            selection=selection_of(call),
            form=form_of(call.accept),
            revision=call.number("resourceVersion"),
            bookmarks=call.flag("allowWatchBookmarks"),
            bookmark_at=now + BOOKMARK_SECONDS,
            deadline=now + seconds,
        )


@dataclass(slots=True)
class _Watch:
    call: Call
    store: Store
    clock: Callable[[], datetime]
    selection: Selection
    form: str
    revision: int
    bookmarks: bool
    bookmark_at: float
    deadline: float
    headed: bool = field(default=False)

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Lines of JSON, one event each."""
        try:
            if self.revision > self.store.revision:
                raise status.from_the_future(self.revision, self.store.revision)
            for line in self._initial():
                yield line
            while not self.store.closed:
                records, self.revision = await self.store.read(self.call.kind.resource, self.revision)
                for line in filter(None, map(self._line, records)):
                    yield line
                if self.revision >= self.store.revision:
                    await self._moved()
                now = asyncio.get_running_loop().time()
                if self.bookmarks and now >= min(self.bookmark_at, self.deadline):
                    self.bookmark_at = now + BOOKMARK_SECONDS
                    yield self._bookmark()
                if now >= self.deadline:
                    return
        except RevisionExpired as error:
            yield _encode("ERROR", status.expired(error.wanted, error.oldest).body())
        except ApiError as error:
            yield _encode("ERROR", error.body())

    def _initial(self) -> Iterator[bytes]:
        """Without a resourceVersion (or with 0) all objects there are count as added."""
        if self.revision:
            return
        entries = self.store.list(self.call.kind.resource, self.call.namespace)
        self.revision = self.store.revision
        for entry in entries:
            value = entry.decode()
            if self._selects(value):
                yield self._encode("ADDED", value)

    async def _moved(self) -> None:
        """Wait for the next revision, or until it is time for a bookmark or for the end."""
        until = min(self.bookmark_at, self.deadline) if self.bookmarks else self.deadline
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self.store.moved(self.revision)

    def _line(self, record: Record) -> bytes | None:
        """The event that a record is for this selection: leaving it is a deletion, entering it an addition."""
        if self.call.namespace not in ("", record.key.namespace):
            return None
        value: JsonObject = msgspec.json.decode(record.body)
        before: JsonObject | None = msgspec.json.decode(record.previous) if record.previous else None
        was = before is not None and self._selects(before)
        is_ = record.type != "DELETED" and self._selects(value)
        if is_:
            return self._encode("MODIFIED" if was else "ADDED", value)
        if not was or before is None:
            return None
        if record.type != "DELETED":
            before["metadata"]["resourceVersion"] = str(record.revision)
            value = before
        return self._encode("DELETED", value)

    def _selects(self, value: JsonObject) -> bool:
        named = not self.call.name or value["metadata"]["name"] == self.call.name
        return named and self.selection.matches(value)

    def _bookmark(self) -> bytes:
        kind = self.call.kind
        metadata = {"resourceVersion": str(self.revision), "creationTimestamp": None}
        value: JsonObject = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
        if self.form == "Table":
            empty = table(
                kind, [], {"resourceVersion": str(self.revision)}, self.call.include, self.clock(), head=False
            )
            return _encode("BOOKMARK", empty)
        return _encode("BOOKMARK", value)

    def _encode(self, type_: str, value: JsonObject) -> bytes:
        value["apiVersion"] = self.call.kind.api_version
        if self.form == "Table":
            metadata = {"resourceVersion": value["metadata"]["resourceVersion"]}
            head, self.headed = not self.headed, True
            return _encode(type_, table(self.call.kind, [value], metadata, self.call.include, self.clock(), head=head))
        return _encode(type_, value if self.form == "object" else partial(value))


def _encode(type_: str, value: JsonObject) -> bytes:
    return msgspec.json.encode({"type": type_, "object": value}) + b"\n"


async def _stream(watch: _Watch, send: Send) -> None:
    async for line in watch.events():
        await send({"type": "http.response.body", "body": line, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
