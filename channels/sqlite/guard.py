"""Who may use the store, and whether it is still the one that was opened."""

from __future__ import annotations

import fcntl
import os
import socket
import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from channels.errors import ChannelError, ChannelFull, ChannelUnavailable, StoreDamaged, StoreError, StoreLocked
from eventing.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAGIC: Final = b"SQLite format 3\0"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`. Raises StoreLocked when another process has it, StoreError when it cannot be made.

    The kernel drops the lock when the process ends, however it ends. The file stays: removing it would let two
    processes lock two files of one name.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(
            f"cannot write to the data directory {path.parent} ({error.strerror}): "
            "make it writable for this user, or choose another with --data"
        ) from error
    try:
        _lock(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StoreLocked(str(path.parent), _holder(descriptor)) from error
    except OSError as error:
        raise StoreError(f"the file system of {path} does not support locks ({error.strerror})") from error
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": rfc3339(time.time())}
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, msgspec.json.encode(holder), 0)
    except OSError as error:
        raise StoreError(f"cannot write {path} ({error.strerror}): make room on its disk") from error


def _holder(descriptor: int) -> str:
    try:
        holder = msgspec.json.decode(os.pread(descriptor, 4096, 0), type=dict[str, str | int])
        return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (msgspec.MsgspecError, KeyError):
        # The holder has the lock and is about to write who it is.
        return "another process"


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
