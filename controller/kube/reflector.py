"""A local copy of all objects of one kind, kept as fresh as a watch allows.

List, then watch from the list's version. A watch that ends or breaks goes on from the last version seen; when the server
no longer knows that version, the objects are listed again and the difference, deletions included, is told as if it had
been watched. Nothing polls: between changes there is one open request.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Protocol

import structlog

from controller.kube.errors import ApiUnavailable, Gone, KubeError, NotFound
from controller.objects.kind import ObjectKey

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping

    from controller.kube.client import ObjectList, WatchEvent
    from controller.objects.kind import JsonObject, Kind

log = structlog.get_logger()


class Source(Protocol):
    """What a Reflector needs of a KubeClient."""

    async def list(self, kind: Kind, namespace: str = "", *, query: Mapping[str, str] | None = None) -> ObjectList: ...

    def watch(
        self,
        kind: Kind,
        resource_version: str,
        namespace: str = "",
        *,
        timeout_seconds: int = 300,
        query: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[WatchEvent, None]: ...


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a kind: `namespace` "" is all; `query` may have `labelSelector` and `fieldSelector`."""

    namespace: str = ""
    query: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """When to ask the server again. All times in seconds.

    The k-th failure in a row waits `first` x 2^(k-1), at most `longest`, less up to half of that by chance, so that many
    processes do not come back at once. A watch lasts `watch` to twice that, and ends a row of failures once it brought
    something or has stood for `settled` (a quiet one may bring nothing until its end; more than the client waits for an
    answer). A kind that is not installed is asked for again after `absent`. `sleep` and `chance` (0 to 1) are for tests.
    """

    first: float = 0.5
    longest: float = 30.0
    watch: int = 300
    settled: float = 60.0
    absent: float = 60.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random

    def delay(self, failures: int) -> float:
        return min(self.longest, self.first * 2.0 ** min(failures - 1, 30)) * (1 - self.chance() / 2)


EVERYTHING = Selection()
CALM = Pace()


class Reflector:
    """The objects of one kind in `store`, and `on_change(key, object or None)` after each change of it.

    `on_change` runs in the event loop and must not block; an error from it is a bug and ends `run`. An object that was
    deleted and made again while nobody looked is told as both. `synced` is set after the first list was told. The objects
    come without `managedFields`, which are often their larger half. An `optional` kind need not be installed.
    """

    def __init__(
        self,
        kube: Source,
        kind: Kind,
        on_change: Callable[[ObjectKey, JsonObject | None], None],
        selection: Selection = EVERYTHING,
        pace: Pace = CALM,
        *,
        optional: bool = False,
    ) -> None:
        self.kind = kind
        self.store: dict[ObjectKey, JsonObject] = {}
        self.synced = asyncio.Event()
        self.error: KubeError | None = None
        """The last failure, until a watch brings something, ends in good order, or has stood for a while."""
        self._kube = kube
        self._on_change = on_change
        self._selection = selection
        self._pace = pace
        self._optional = optional
        self._absent = False
        self._version: str | None = None
        self._failures = 0

    @property
    def live(self) -> bool:
        """Whether the store comes from a list that succeeded in this process, and no newer one is owed."""
        return self._version is not None or self._absent

    def seed(self, objects: Iterable[JsonObject]) -> None:
        """Begin with objects as they were once, until the first list says how they are now."""
        for obj in objects:
            self._put(self._key(obj), obj)

    async def run(self) -> NoReturn:
        """Keep the store fresh until cancelled."""
        while True:
            try:
                version = await self._list() if self._version is None else self._version
                await self._watch(version)
                self._recovered()
            except Gone as error:
                self._version = None
                self._failed(error)
            except NotFound as error:
                if self._optional:
                    await self._wait_for_kind()
                    continue
                self._failed(error)
            except KubeError as error:
                self._failed(error)
            # Also after a watch that ended as it should: a server that ends each one at once must not be hammered.
            await self._pace.sleep(self._delay())

    async def _wait_for_kind(self) -> None:
        """The server does not serve the kind, so there are no objects of it, until it is installed."""
        self._absent, self._version = True, None
        for key in list(self.store):
            self._remove(key)
        self._recovered()
        self.synced.set()
        await self._pace.sleep(self._pace.absent)

    async def _list(self) -> str:
        listed = await self._kube.list(self.kind, self._selection.namespace, query=self._selection.query)
        found = {self._key(obj): obj for obj in listed.items}
        for key in self.store.keys() - found.keys():
            self._remove(key)
        for key, obj in found.items():
            self._put(key, obj)
        self._version, self._absent = listed.resource_version, False
        self.synced.set()
        return listed.resource_version

    async def _watch(self, version: str) -> None:
        events = self._kube.watch(
            self.kind,
            version,
            self._selection.namespace,
            timeout_seconds=round(self._pace.watch * (1 + self._pace.chance())),
            query=self._selection.query,
        )
        settled = asyncio.get_running_loop().call_later(self._pace.settled, self._recovered)
        try:
            async with aclosing(events):
                async for event in events:
                    self._take(event)
                    self._recovered()
        finally:
            settled.cancel()

    def _take(self, event: WatchEvent) -> None:
        if event.type in {"ADDED", "MODIFIED"}:
            self._put(self._key(event.object), event.object)
        elif event.type == "DELETED":
            self._remove(self._key(event.object))
        self._version = event.object["metadata"]["resourceVersion"]

    def _put(self, key: ObjectKey, obj: JsonObject) -> None:
        obj["metadata"].pop("managedFields", None)
        known = self.store.get(key)
        if known is not None and known["metadata"].get("uid") != obj["metadata"].get("uid"):
            self._remove(key)
        elif known == obj:
            return
        self.store[key] = obj
        self._on_change(key, obj)

    def _remove(self, key: ObjectKey) -> None:
        if self.store.pop(key, None) is not None:
            self._on_change(key, None)

    def _key(self, obj: JsonObject) -> ObjectKey:
        metadata = obj["metadata"]
        return ObjectKey(self.kind.group, self.kind.kind, metadata.get("namespace", ""), metadata["name"])

    def _delay(self) -> float:
        asked = self.error.retry_after if isinstance(self.error, ApiUnavailable) else None
        return max(self._pace.delay(max(self._failures, 1)), min(asked or 0.0, self._pace.longest))

    def _failed(self, error: KubeError) -> None:
        # One line for each trouble: a kind that is not installed would otherwise speak twice a minute for ever.
        tell = log.debug if str(error) == str(self.error) else log.warning
        self._failures += 1
        self.error = error
        tell("kubernetes_watch_failed", kind=self.kind.resource, failures=self._failures, error=str(error))

    def _recovered(self) -> None:
        if self._failures:
            log.info("kubernetes_watch_recovered", kind=self.kind.resource, failures=self._failures)
        self._failures = 0
        self.error = None
