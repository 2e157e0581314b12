"""The KV bucket that holds the state: keys with their revisions, and writes that are one and bound to a claim.

It is an ordinary bucket, for `nats kv` too; atomic batches and the TTL of what was removed are all that was added.
"""

from __future__ import annotations

import asyncio
import secrets
from base64 import b64decode
from typing import TYPE_CHECKING, Final, NamedTuple

from channels.errors import ChannelUnavailable, StoreError, StoreTooNew
from channels.jetstream.errors import NoMessage
from channels.jetstream.stream import make

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nats.aio.msg import Msg

    from channels.jetstream.connection import Connection

FORMAT: Final = 1
"""The version of keys and values. A bucket with a higher one is refused."""

_REMOVED: Final = {"KV-Operation": "PURGE", "Nats-TTL": "60s"}
"""What a removed key becomes; after a minute the server removes this too."""

_PAGE: Final = 500
_PAGE_BYTES: Final = 8 << 20
_MOST: Final = 900
_MOST_BYTES: Final = 8 << 20
"""Keys, and bytes of values, that one atomic batch has at most. The server takes 1000 messages."""

_AT_ONCE: Final = 16
"""Batches under way: the server takes 50 of a stream at a time, of all processes together."""

_ASKED: Final = 50
_BEHIND: Final = 0.02
"""How often replicas that are behind are asked, and the seconds between."""

_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
_EXPECTED_OF: Final = "Nats-Expected-Last-Subject-Sequence-Subject"


class Entry(NamedTuple):
    """A value and the revision that it has; `removed` where the key is gone and only the revision is left."""

    key: str
    value: bytes
    revision: int
    removed: bool = False


class Condition(NamedTuple):
    """A write counts only while `key` has this `revision`; 0 means that there is none."""

    key: str
    revision: int


class Bucket:
    """One bucket. Its methods raise ChannelError."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.stream = f"KV_{name}"
        self._replicated = False
        self._connection = connection
        self._root = f"$KV.{name}."
        self._batches = asyncio.Semaphore(_AT_ONCE)

    async def prepare(self, replicas: int) -> None:
        """Make the bucket where there is none. Raises StoreError where it lacks what the driver needs."""
        wanted = {
            "name": self.stream,
            "description": "The state of Penstock's dispatch",
            "subjects": [f"{self._root}>"],
            "max_msgs_per_subject": 1,
            "discard": "new",
            "storage": "file",
            "num_replicas": replicas,
            "allow_direct": True,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "allow_msg_ttl": True,
            "allow_atomic": True,
        }
        config = await make(self._connection, wanted)
        for name in ("max_msgs_per_subject", "allow_msg_ttl", "allow_atomic", "allow_direct"):
            if config.get(name) != wanted[name]:
                raise StoreError(
                    f"the bucket {self.stream} was made with {name}={config.get(name)}: remove or rename it"
                )
        self._replicated = config["num_replicas"] > 1
        found = await self.get("format")
        if found is None:
            await self._connection.store(f"{self._root}format", str(FORMAT).encode())
        elif int(found.value) > FORMAT:
            raise StoreTooNew(f"the bucket {self.stream} has format {found.value!r}, this Penstock knows {FORMAT}")

    # --- reading --------------------------------------------------------------------------------------------------

    async def get(self, key: str) -> Entry | None:
        """The newest value of a key, from the leader; a key with wildcards stands for the newest of many."""
        found = await self.last(key)
        return None if found is None or found.removed else found

    async def last(self, key: str) -> Entry | None:
        """As `get`, with what was removed of late."""
        try:
            answer = await self._connection.api(f"STREAM.MSG.GET.{self.stream}", {"last_by_subj": self._root + key})
        except NoMessage:
            return None
        message = answer["message"]
        return Entry(
            message["subject"].removeprefix(self._root),
            b64decode(message.get("data", "")),
            int(message["seq"]),
            b"KV-Operation" in b64decode(message.get("hdrs", "")),
        )

    async def read(self, keys: str) -> list[Entry]:
        """Every entry whose key matches, in the order of their revisions: any replica may answer, and be a little behind."""
        found: list[Entry] = []
        after = 0
        while True:
            page = await self._connection.get(
                self.stream,
                {"seq": after + 1, "next_by_subj": self._root + keys, "batch": _PAGE, "max_bytes": _PAGE_BYTES},
            )
            if not page:
                return found
            found += [entry for entry in map(self._entry, page) if not entry.removed]
            after = int((page[-1].headers or {})["Nats-Sequence"])
            if (page[-1].headers or {}).get("Nats-Num-Pending") == "0":
                return found

    async def read_now(self, root: str) -> list[Entry]:
        """Every entry below `root` as it is now. What a replica has is a beginning of the stream, so one that has what is
        written here, now, has all that was written before.
        """
        if not self._replicated:
            return await self.read(f"{root}.>")
        mark = f"{root}.mark"
        revision = await self.put(mark, b"")
        for _ in range(_ASKED):
            entries = await self.read(f"{root}.>")
            if any(entry.key == mark and entry.revision >= revision for entry in entries):
                return [entry for entry in entries if entry.key != mark]
            await asyncio.sleep(_BEHIND)
        raise ChannelUnavailable(f"a replica of {self.stream} is behind")

    async def read_each(self, keys: Sequence[str]) -> list[Entry]:
        """The entries of these keys, as far as they exist now."""
        if not keys:
            return []
        subjects = [self._root + key for key in keys]
        page = await self._connection.get(self.stream, {"multi_last": subjects, "batch": len(subjects)})
        entries = [self._entry(message) for message in page]
        if self._replicated:
            # A replica that is behind has not heard of some of them.
            missing = set(keys) - {entry.key for entry in entries}
            entries += [entry for key in missing if (entry := await self.last(key)) is not None]
        return [entry for entry in entries if not entry.removed]

    async def keys(self, pattern: str) -> list[str]:
        """The keys that match, removed ones included until they are purged."""
        found: list[str] = []
        while True:
            answer = await self._connection.api(
                f"STREAM.INFO.{self.stream}", {"subjects_filter": self._root + pattern, "offset": len(found)}
            )
            subjects = answer["state"].get("subjects") or {}
            found += [subject.removeprefix(self._root) for subject in subjects]
            if not subjects or len(found) >= answer.get("total", 0):
                return found

    def _entry(self, message: Msg) -> Entry:
        headers = message.headers or {}
        key = headers["Nats-Subject"].removeprefix(self._root)
        return Entry(key, message.data or b"", int(headers["Nats-Sequence"]), "KV-Operation" in headers)

    # --- writing --------------------------------------------------------------------------------------------------

    async def put(self, key: str, value: bytes, *, ttl: int = 0, condition: Condition | None = None) -> int:
        """Write one key, for `ttl` seconds where that is not 0; its revision. Raises ConditionFailed too."""
        headers = {"Nats-TTL": f"{ttl}s"} if ttl else {}
        if condition is not None:
            headers |= self._bound(condition)
        return await self._connection.store(self._root + key, value, headers)

    async def put_each(self, values: Mapping[Condition, bytes]) -> int:
        """Write keys as one, each where it still has its revision; the revision of the last, others count up to it."""
        return await self._batch([(key.key, value, self._bound(key)) for key, value in values.items()])

    async def write(self, writes: Mapping[str, bytes | None], condition: Condition | None = None) -> int:
        """Write, or with None remove, keys as one; the last revision. Raises ConditionFailed, then nothing was written.

        What is too much for one batch is several, in the order of `writes`.
        """
        revision = 0
        batch: list[tuple[str, bytes, Mapping[str, str]]] = []
        size = 0
        for key, value in writes.items():
            if batch and (len(batch) >= _MOST or size + len(value or b"") > _MOST_BYTES):
                revision = await self._batch(batch)
                batch, size = [], 0
            headers = dict(_REMOVED) if value is None else {}
            if condition is not None and not batch:
                headers |= self._bound(condition)
            batch.append((key, value or b"", headers))
            size += len(value or b"")
        return await self._batch(batch) if batch else revision

    async def remove(self, keys: Sequence[str], up_to: int) -> None:
        """Take keys off that were removed up to a revision: until then they are still listed."""
        await asyncio.gather(
            *(
                self._connection.api(f"STREAM.PURGE.{self.stream}", {"filter": self._root + key, "seq": up_to + 1})
                for key in keys
            )
        )

    async def remove_all(self, pattern: str) -> None:
        """Remove all keys that match, whatever their revision."""
        await self._connection.api(f"STREAM.PURGE.{self.stream}", {"filter": self._root + pattern}, wrote=True)

    async def _batch(self, messages: Sequence[tuple[str, bytes, Mapping[str, str]]]) -> int:
        (*some, (key, value, headers)) = [(self._root + key, value, headers) for key, value, headers in messages]
        if not some:
            return await self._connection.store(key, value, headers)
        batch = secrets.token_hex(8)
        async with self._batches:
            for number, (subject, part, extra) in enumerate(some, 1):
                await self._connection.send(
                    subject, part, {**extra, "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
                )
            commit = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(len(messages)), "Nats-Batch-Commit": "1"}
            return await self._connection.store(key, value, {**headers, **commit})

    def _bound(self, condition: Condition) -> dict[str, str]:
        return {_EXPECTED: str(condition.revision), _EXPECTED_OF: self._root + condition.key}
