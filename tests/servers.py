"""Real servers for tests, by `scripts/servers`: each on a free port, with a folder of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVERS = Path(__file__).parents[1] / "scripts" / "servers"


@contextlib.contextmanager
def running(name: str, folder: Path, **env: str) -> Iterator[str]:
    """A server of this name until the end of the block; its URL. `env` goes to the script."""
    port = {f"{name.rstrip('3').upper()}_PORT": str(_free_ports())}
    wanted = {**os.environ, "PENSTOCK_SERVERS": str(folder), **port, **env}
    try:
        done = subprocess.run([SERVERS, name, "up"], env=wanted, stdout=subprocess.PIPE, text=True, check=True)
        yield done.stdout.split("\n")[-2]
    finally:
        subprocess.run([SERVERS, name, "down"], env=wanted, check=True)


def _free_ports() -> int:
    """A port that nobody listens on, and neither on the few after it, which the servers of a cluster use."""
    while True:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                for further in (1, 2, 101, 102, 103):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port + further))
            except (OSError, OverflowError):
                continue
            return port
