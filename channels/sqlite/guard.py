"""Whether the store is ours and whole, and still the one that was opened."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Final

from channels.errors import ChannelError, ChannelFull, ChannelUnavailable, StoreDamaged, StoreError

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC: Final = b"SQLite format 3\0"


def check_file(path: Path) -> None:
    """Look at a store before SQLite does: raises StoreDamaged where it is no database or a cut-off one.

    This opens and closes the file, and that drops every lock that this process has on it: never do it once a connection
    is open.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"cannot read {path} ({error.strerror}): make it readable for this user") from error
    if not size:
        return
    if not header.startswith(_MAGIC) or len(header) < 100:
        raise damaged(path, "it does not begin as a SQLite file does")
    page_size = int.from_bytes(header[16:18], "big")
    page_size = 65536 if page_size == 1 else page_size
    pages = int.from_bytes(header[28:32], "big")
    wal = wal_of(path)
    # With a write-ahead log beside it, a checkpoint may have been cut short: SQLite mends that.
    if size < pages * page_size and not (wal.exists() and wal.stat().st_size):
        raise damaged(path, f"it should have {pages * page_size} bytes and has {size}")


def damaged(path: Path, detail: str) -> StoreDamaged:
    return StoreDamaged(
        f"{path} is damaged: {detail}. Restore it from a backup, or move it and {path.name}-wal away to start empty"
    )


def wal_of(path: Path) -> Path:
    """The write-ahead log beside the database."""
    return path.with_name(path.name + "-wal")


class FilesGone(StoreError):
    """What was written went to a file that has no name any more."""


class Files:
    """The files that were opened: what is written to a file that somebody removed or replaced is lost."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names = (os.fspath(path), os.fspath(wal_of(path)))
        self._identity = self._look()

    def check(self) -> None:
        """Raise FilesGone when the database or its write-ahead log is no longer the one that was opened."""
        try:
            same = self._look() == self._identity
        except OSError:
            same = False
        if not same:
            raise FilesGone(
                f"{self._path} or its write-ahead log was removed or replaced while Penstock was running: "
                "nothing more is accepted. Put the files back or restore a backup, then restart"
            )

    def _look(self) -> list[tuple[int, int]]:
        # Each commit pays for this, and Path.stat costs twice as much.
        found = [os.stat(name) for name in self._names]  # noqa: PTH116 - see above
        return [(status.st_dev, status.st_ino) for status in found]


def channel_error(error: sqlite3.Error, path: Path) -> ChannelError:
    """One of our errors for one of SQLite's. Nothing was stored, except where a commit failed (the writer knows)."""
    code = code_of(error)
    if code == sqlite3.SQLITE_FULL:
        return ChannelFull(f"there is no room for {path}: make room on its disk, or raise max_file_bytes")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(path, str(error))
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StoreError(f"cannot write {path} ({error}): make it and its directory writable for this user")
    return ChannelUnavailable(f"{path}: {error}")


def code_of(error: sqlite3.Error) -> int:
    """The primary result code; 0 where the error is not SQLite's own but the module's."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
