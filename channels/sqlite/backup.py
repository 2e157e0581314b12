"""A copy of the store, made while it is in use."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Protocol

from channels.errors import StoreError
from channels.sqlite.backend import STORE
from channels.sqlite.guard import channel_error
from channels.sqlite.schema import connect

if TYPE_CHECKING:
    from pathlib import Path


class Progress(Protocol):
    """Told how far a copy is."""

    def __call__(self, done: int, total: int) -> None:
        """So many pages of so many are copied."""
        ...


_STEP = 4096
"""Pages that are copied at once; progress is told after each step."""


def backup(data_dir: Path, target: Path, progress: Progress | None = None) -> None:
    """Copy the store of `data_dir`, as it is at one moment, to the new file `target`. Needs no lock and stops nobody.

    To restore it, put it as `penstock.db` into an empty data directory. Raises StoreError.
    """
    path = data_dir / STORE
    if not path.exists():
        raise StoreError(f"there is no store in {data_dir}: name the directory that `penstock serve` uses with --data")
    copy_database(path, target, progress)


def copy_database(path: Path, target: Path, progress: Progress | None = None) -> None:
    """Copy any SQLite file with a write-ahead log, as it is at one moment, to the new file `target`. Raises StoreError."""
    if target.exists():
        raise StoreError(f"{target} exists already: choose another name for the backup")
    # Under another name until it is whole: nobody may take half a copy for a backup.
    partial = target.with_name(target.name + ".partial")
    try:
        _copy(path, partial, progress)
        partial.rename(target)
        _sync(target.parent)
    except sqlite3.Error as error:
        raise channel_error(error, path) from error
    except OSError as error:
        raise StoreError(f"cannot write {target} ({error.strerror})") from error
    finally:
        partial.unlink(missing_ok=True)


def _copy(path: Path, target: Path, progress: Progress | None) -> None:
    def told(_: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress(total - remaining, total)

    source = connect(path, read_only=True)
    try:
        copy = sqlite3.connect(target)
        try:
            # The copy is made in steps, and the transaction around them keeps all of them at one moment: without it each
            # write of others would begin it again.
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            source.backup(copy, pages=_STEP, progress=told, sleep=0.0)
            # One file, without a write-ahead log beside it that could be forgotten.
            copy.execute("PRAGMA journal_mode = DELETE")
        finally:
            copy.close()
    finally:
        source.close()
    _sync(target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
