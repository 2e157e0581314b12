"""Statuses on their way to the API server: the control loop says what they are to be, and does not wait for it.

Each object is written by one worker at a time, with the newest status that was asked for; what the server does not take
is tried again. So a server that is slow or away delays statuses and nothing else.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from controller.kube.errors import KubeError, NotFound
from controller.objects.views import child

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from controller.kube.client import KubeClient
    from controller.objects.kind import JsonObject, Kind, ObjectKey

log = structlog.get_logger()

WORKERS: Final = 8
"""How many writes may be under way: a cluster with thousands of Triggers is not written one after the other."""

FIRST_RETRY: Final = 0.5
LONGEST_RETRY: Final = 30.0
"""Seconds until a write that failed is tried again; they double in between."""


@dataclass(slots=True)
class _Wanted:
    """What an object's status is to be, as far as somebody said: all of it but its annotations, and some of those."""

    status: JsonObject | None = None
    notes: dict[str, str | None] = field(default_factory=dict)

    def under(self, newer: _Wanted | None) -> _Wanted:
        """This, where `newer` says nothing else."""
        if newer is None:
            return self
        return _Wanted(newer.status if newer.status is not None else self.status, {**self.notes, **newer.notes})


class StatusWriter:
    """`read` gives an object as it was seen last, `on_written` is told of it as the server has it after a write."""

    def __init__(
        self,
        kube: KubeClient,
        kinds: Mapping[tuple[str, str], Kind],
        read: Callable[[ObjectKey], JsonObject | None],
        on_written: Callable[[ObjectKey, JsonObject], None],
    ) -> None:
        self._kube = kube
        self._kinds = kinds
        self._read = read
        self._on_written = on_written
        self._wanted: dict[ObjectKey, _Wanted] = {}
        self._queue: asyncio.Queue[ObjectKey] = asyncio.Queue()
        self._held: set[ObjectKey] = set()
        self._failures: dict[ObjectKey, int] = {}

    def put(self, key: ObjectKey, status: JsonObject) -> None:
        """The status of this object is to be so, whatever its annotations are."""
        self._want(key, _Wanted(status))

    def note(self, key: ObjectKey, notes: Mapping[str, str | None]) -> None:
        """These annotations of the status are to be so, those that are None gone; others stay."""
        self._want(key, _Wanted(notes=dict(notes)))

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())

    def _want(self, key: ObjectKey, wanted: _Wanted) -> None:
        before = self._wanted.get(key)
        self._wanted[key] = wanted if before is None else before.under(wanted)
        # While it is being written, or waits to be tried again, it comes to the queue after that.
        if before is None and key not in self._held:
            self._queue.put_nowait(key)

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            wanted = self._wanted.pop(key)
            self._held.add(key)
            try:
                await self._write(key, wanted)
            except KubeError as error:
                self._try_again(key, wanted, error)
            else:
                self._failures.pop(key, None)
                self._release(key)

    def _release(self, key: ObjectKey) -> None:
        self._held.discard(key)
        if key in self._wanted:
            self._queue.put_nowait(key)

    def _try_again(self, key: ObjectKey, wanted: _Wanted, error: KubeError) -> None:
        self._wanted[key] = wanted.under(self._wanted.get(key))
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(LONGEST_RETRY, FIRST_RETRY * 2.0 ** (failures - 1))
        # One line for each trouble: the same one with every try would fill the log while the server is away.
        tell = log.warning if failures == 1 else log.debug
        tell(
            "a status cannot be written; trying again",
            object=f"{key.kind} {key.namespace}/{key.name}",
            error=str(error),
            retry_in=delay,
        )
        asyncio.get_running_loop().call_later(delay, self._release, key)

    async def _write(self, key: ObjectKey, wanted: _Wanted) -> None:
        obj = self._read(key)
        patch = {} if obj is None else status_patch(child(obj, "status"), wanted.status, wanted.notes)
        if not patch:
            return
        try:
            written = await self._kube.patch_status(
                self._kinds[key.group, key.kind], key.namespace, key.name, {"status": patch}
            )
        except NotFound:
            # It was deleted meanwhile, and the watch will say so.
            return
        self._on_written(key, written)


def status_patch(present: JsonObject, status: JsonObject | None, notes: Mapping[str, str | None]) -> JsonObject:
    """What has to be merged (RFC 7396) into `present`, so that it is `status` (None for as it is) with these `notes`.

    A merge keeps what it does not name, so what is no longer true is named as null. Annotations that are not among `notes`
    belong to others.
    """
    patch: JsonObject = {}
    if status is not None:
        gone = present.keys() - status.keys() - {"annotations"}
        patch = {**dict.fromkeys(gone), **{name: value for name, value in status.items() if present.get(name) != value}}
    annotations = child(present, "annotations")
    changed = {name: value for name, value in notes.items() if annotations.get(name) != value}
    if changed:
        patch["annotations"] = changed
    return patch
