"""How much room the store takes, and when it must refuse."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from channels.errors import ChannelFull

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from channels.channel import ChannelSettings

_INTERVAL: Final = 1.0
"""Seconds for which a look at the disk holds."""

_STEP: Final = 1 << 20
"""Bytes of events after which it holds no longer."""


class Space:
    """Watches the limits. Used by the writer's thread only."""

    def __init__(self, path: Path, connection: sqlite3.Connection, settings: ChannelSettings) -> None:
        self._path = path
        self._connection = connection
        self._settings = settings
        self._left = 0
        self._refusal = ""
        self._trusted = 0
        self._looked = 0.0

    def refresh(self) -> None:
        """Look again where the last look is old; always while the store is full. Raises sqlite3.Error."""
        now = time.monotonic()
        if self._left <= 0 or self._trusted <= 0 or now - self._looked >= _INTERVAL:
            self._look()
            self._trusted = _STEP
            self._looked = now

    def admit(self, size: int) -> None:
        """Take `size` bytes for new events. Raises ChannelFull when only the reserve is left."""
        if size > self._left:
            # Look before the next request: its events may be smaller, or room was made.
            self._left = min(self._left, 0)
            raise ChannelFull(self._refusal)
        self._left -= size
        self._trusted -= size

    def lacks(self, size: int) -> int:
        """How many bytes must be made free before `size` bytes of new events have room."""
        return size - self._left

    def made(self) -> None:
        """Room was made: look before the next request."""
        self._trusted = 0

    def _look(self) -> None:
        settings = self._settings
        try:
            used, limit = room_of(self._path, self._connection, settings)
        except OSError:
            # The file is gone: the check after the next commit says so.
            return
        by_file = settings.max_file_bytes <= limit
        cause = "max_file_bytes" if by_file else f"max_disk_share of the disk ({settings.max_disk_share:.0%})"
        fix = "raise max_file_bytes" if by_file else "make room on the disk"
        self._left = int(settings.reserve_share * limit) - used
        self._refusal = (
            f"{self._path} holds {used} bytes of {limit} that {cause} allows, the rest is kept for replies and "
            f"cursors: {fix}, shorten retention, or see which Trigger has not settled its events"
        )


def room_of(path: Path, connection: sqlite3.Connection, settings: ChannelSettings) -> tuple[int, int]:
    """How many bytes of the store are in use, and how many it may have. Raises sqlite3.Error, and OSError without a file."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    disk = os.statvfs(path)
    room = int(settings.max_disk_share * (pages * size + disk.f_bavail * disk.f_frsize))
    return (pages - free) * size, min(settings.max_file_bytes, room)


def fullness(path: Path, connection: sqlite3.Connection, settings: ChannelSettings) -> float:
    """Which share of the room for new events is taken: at 1.0 they are refused, or the oldest dropped."""
    used, limit = room_of(path, connection, settings)
    return used / max(1.0, settings.reserve_share * limit)
