"""Who may use the data directory: one process at a time, whatever the channel."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from channels.errors import StoreError, StoreLocked
from eventing.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK: Final = "penstock.lock"
"""The lock file's name in the data directory."""


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
