"""The objects of the last routing table on disk: with them a data plane begins while the API server is away."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from controller.objects.kind import JsonObject

log = structlog.get_logger()

FORMAT: Final = 1
REST: Final = 5.0
"""Seconds between two writes: a large cluster that changes all the time is not written all the time."""


class _File(msgspec.Struct):
    format: int
    server: str
    home: str
    objects: list[dict[str, Any]]


class ObjectCache:
    """One file, written whole and put in its place at once, so that a crash leaves the old one or the new one.

    `server` is the version of the API server that the objects come from, `home` the id of its cluster, `objects` what was saved
    last: nothing where there is no file, or none that this version can read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = asyncio.Event()
        file = self._load()
        self.server = file.server
        self.home = file.home
        self.objects: Sequence[JsonObject] = file.objects

    def _load(self) -> _File:
        nothing = _File(FORMAT, "", "", [])
        try:
            file = msgspec.json.decode(self._path.read_bytes(), type=_File)
        except FileNotFoundError:
            return nothing
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("the cached routes cannot be read", file=str(self._path), error=str(error))
            return nothing
        return file if file.format == FORMAT else nothing

    def changed(self) -> None:
        """There is something new to save."""
        self._changed.set()

    async def run(self, objects: Callable[[], Iterable[JsonObject]]) -> None:
        """Save what `objects` gives, after each change and not too often, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            content = msgspec.json.encode(_File(FORMAT, self.server, self.home, list(objects())))
            try:
                await asyncio.to_thread(self._save, content)
            except OSError as error:
                log.warning("the routes cannot be cached", file=str(self._path), error=str(error), fix="make room")
            await asyncio.sleep(REST)

    def _save(self, content: bytes) -> None:
        new = self._path.with_name(self._path.name + ".new")
        try:
            # Secrets are not among them, but addresses are: only the owner reads it.
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            raise
