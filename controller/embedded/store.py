"""Where the embedded API keeps its objects: one SQLite file with the objects and a log of revisions.

Every write is one transaction, made by one writer: it decides on the state that the write before it left, so that
read, check and write cannot be torn apart. The current objects stand in memory as bytes; a watch is a cursor on the log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from controller.embedded.database import Database, Key, Record, StoreFailed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from controller.objects.kind import JsonObject

T = TypeVar("T")

KEEP_REVISIONS = 10_000
RECENT_RECORDS = 512
RECENT_BYTES = 4 << 20
READ_RECORDS = 200
_OWNERS = b'"ownerReferences"'

__all__ = ["Entry", "Key", "Record", "RevisionExpired", "Store", "StoreFailed", "Transaction", "open_store"]


class RevisionExpired(Exception):
    """The log no longer has the revisions after `wanted`; `oldest` is the first from which a watch can go on."""

    def __init__(self, wanted: int, oldest: int) -> None:
        super().__init__(f"revision {wanted} is older than {oldest}, the oldest that is kept")
        self.wanted = wanted
        self.oldest = oldest


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as it is stored. `body` is its JSON, with the revision in metadata.resourceVersion."""

    key: Key
    revision: int
    body: bytes

    def decode(self) -> JsonObject:
        return _decode(self.body)


class Transaction:
    """What one write sees and does. Its own changes are visible to it; nobody else sees them before the commit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed: dict[Key, bytes | None] = {}
        self._owned: set[Key] = set()
        self.records: list[Record] = []

    def get(self, key: Key) -> JsonObject | None:
        body = self._body(key)
        return None if body is None else _decode(body)

    def list(self, resource: str, namespace: str = "") -> Iterator[tuple[Key, JsonObject]]:
        """The objects of a resource, in one namespace or ("") in all, ordered by namespace and name."""
        for key, body in self._bodies(resource, namespace):
            yield key, _decode(body)

    def dependents(self, uid: str) -> Sequence[tuple[Key, JsonObject]]:
        """The objects that name this uid in their ownerReferences."""
        bodies = ((key, self._body(key)) for key in sorted(self._store.owned | self._owned))
        # The search in the bytes is a cheap sieve: few objects have to be decoded.
        found = [(key, _decode(body)) for key, body in bodies if body is not None and uid.encode() in body]
        return [(key, value) for key, value in found if any(ref["uid"] == uid for ref in owners_of(value))]

    def put(self, key: Key, value: JsonObject) -> JsonObject:
        """Create or replace an object; returns it with its new resourceVersion."""
        previous = self._body(key)
        return self._record("ADDED" if previous is None else "MODIFIED", key, value, previous)

    def delete(self, key: Key, last: JsonObject) -> JsonObject | None:
        """Remove an object, whose last state is `last`; returns that with the resourceVersion of the removal."""
        previous = self._body(key)
        return None if previous is None else self._record("DELETED", key, last, previous)

    def _bodies(self, resource: str, namespace: str) -> Iterator[tuple[Key, bytes]]:
        """Those of a resource in one namespace or ("") in all, in order."""
        keys = {entry.key for entry in self._store.list(resource, namespace)}
        keys |= {key for key in self._changed if key.resource == resource and namespace in ("", key.namespace)}
        for key in sorted(keys):
            if (body := self._body(key)) is not None:
                yield key, body

    def _body(self, key: Key) -> bytes | None:
        if key in self._changed:
            return self._changed[key]
        entry = self._store.get(key)
        return None if entry is None else entry.body

    def _record(self, type_: str, key: Key, value: JsonObject, previous: bytes | None) -> JsonObject:
        revision = self._store.revision + len(self.records) + 1
        stamped = value | {"metadata": value.get("metadata", {}) | {"resourceVersion": str(revision)}}
        body = msgspec.json.encode(stamped)
        self._changed[key] = None if type_ == "DELETED" else body
        if _OWNERS in body:
            self._owned.add(key)
        self.records.append(Record(revision, type_, key, body, previous))
        return stamped


@dataclass(frozen=True, slots=True)
class _Write(Generic[T]):
    decide: Callable[[Transaction], T]
    done: asyncio.Future[T]


class Store:
    """Objects by resource, namespace and name, and the log of their revisions. Made by `open_store`."""

    def __init__(self, database: Database, executor: ThreadPoolExecutor) -> None:
        self._database = database
        self._executor = executor
        self._objects: dict[str, dict[Key, Entry]] = {}
        self._owned: set[Key] = set()
        for key, revision, body in database.objects():
            self._keep(Entry(key, revision, body))
        self._revision = database.revision
        self._recent: deque[Record] = deque()
        self._recent_bytes = 0
        self._writes: asyncio.Queue[_Write[object] | None] = asyncio.Queue()
        self._moved = asyncio.Event()
        self._closed = False

    @property
    def revision(self) -> int:
        """The revision of the last write: the resourceVersion of every list."""
        return self._revision

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def owned(self) -> AbstractSet[Key]:
        """The objects that have owners: all that a search for dependents must look at."""
        return self._owned

    def get(self, key: Key) -> Entry | None:
        return self._objects.get(key.resource, {}).get(key)

    def list(self, resource: str, namespace: str = "") -> list[Entry]:
        """The objects of a resource, in one namespace or ("") in all, ordered by namespace and name."""
        found = self._objects.get(resource, {})
        return [found[key] for key in sorted(found) if namespace in ("", key.namespace)]

    async def write(self, decide: Callable[[Transaction], T]) -> T:
        """Run `decide` alone on the current state and make what it did durable; returns what it returned.

        What `decide` raises is raised here and nothing is written. Once begun, a write is finished even if the caller
        is cancelled. Raises StoreFailed if the file cannot be written.
        """
        if self._closed:
            raise StoreFailed("the store of the embedded API is closed")
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        await self._writes.put(_Write(decide, done))  # type: ignore[arg-type] # the queue holds writes of any result
        return await done

    def preview(self, decide: Callable[[Transaction], T]) -> T:
        """Run `decide` as `write` would, and forget what it did: a dry run."""
        return decide(Transaction(self))

    async def read(self, resource: str, after: int) -> tuple[Sequence[Record], int]:
        """Records of a resource after a revision, and the revision to go on from; empty where there is none yet.

        Raises RevisionExpired if the log was compacted past `after`.
        """
        if after < self._database.compacted:
            raise RevisionExpired(after, self._database.compacted)
        head = self._revision
        if after >= head:
            return (), after
        if self._recent and self._recent[0].revision <= after + 1:
            return [
                record for record in self._recent if record.revision > after and record.key.resource == resource
            ], head
        loop = asyncio.get_running_loop()
        records = await loop.run_in_executor(self._executor, self._database.read, resource, after, head, READ_RECORDS)
        if after < self._database.compacted:
            raise RevisionExpired(after, self._database.compacted)
        return records, records[-1].revision if len(records) == READ_RECORDS else head

    async def moved(self, after: int) -> None:
        """Wait until there is a revision after this one, or the store is closed."""
        while self._revision <= after and not self._closed:
            await self._moved.wait()

    async def run(self) -> None:
        """The one writer. `open_store` owns it."""
        while (write := await self._writes.get()) is not None:
            if write.done.cancelled():
                continue
            try:
                result = await self._apply(write.decide)
            except Exception as error:  # noqa: BLE001 - it is raised to the caller, the writer must go on
                _settle(write.done, error=error)
            else:
                _settle(write.done, result=result)

    def stop(self) -> None:
        """Take no further writes, finish those that wait, and end every watch."""
        self._closed = True
        self._writes.put_nowait(None)
        self._wake()

    async def _apply(self, decide: Callable[[Transaction], T]) -> T:
        transaction = Transaction(self)
        result = decide(transaction)
        if transaction.records:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._executor, self._database.commit, transaction.records)
            self._publish(transaction.records)
        return result

    def _publish(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.type == "DELETED":
                self._objects[record.key.resource].pop(record.key, None)
                self._owned.discard(record.key)
            else:
                self._keep(Entry(record.key, record.revision, record.body))
            self._recent.append(record)
            self._recent_bytes += record.size
        while len(self._recent) > RECENT_RECORDS or self._recent_bytes > RECENT_BYTES:
            self._recent_bytes -= self._recent.popleft().size
        self._revision = records[-1].revision
        self._wake()

    def _keep(self, entry: Entry) -> None:
        self._objects.setdefault(entry.key.resource, {})[entry.key] = entry
        if _OWNERS in entry.body:
            self._owned.add(entry.key)
        else:
            self._owned.discard(entry.key)

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


@asynccontextmanager
async def open_store(path: Path, keep: int = KEEP_REVISIONS) -> AsyncGenerator[Store, None]:
    """Open the store at `path`, or make it; `keep` is how many revisions a watch can go back.

    One process may use a file; copying it with SQLite's backup is fine at any time. Raises StoreFailed if it cannot be
    opened, is no such store, or has another format.
    """
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="api-store") as executor:
        database = await loop.run_in_executor(executor, Database, path, keep)
        try:
            store = Store(database, executor)
            writer = asyncio.create_task(store.run(), name="api store writer")
            try:
                yield store
            finally:
                store.stop()
                await asyncio.shield(writer)
        finally:
            await asyncio.shield(loop.run_in_executor(executor, database.close))


def owners_of(value: JsonObject) -> Sequence[JsonObject]:
    """The ownerReferences of an object."""
    found: Sequence[JsonObject] = value["metadata"].get("ownerReferences", ())
    return found


def _settle(done: asyncio.Future[T], *, result: T | None = None, error: Exception | None = None) -> None:
    if done.done():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)  # type: ignore[arg-type] # T may be None; the caller of a write knows


def _decode(body: bytes) -> JsonObject:
    value: JsonObject = msgspec.json.decode(body)
    return value
