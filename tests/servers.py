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


class Server:
    """A server of `scripts/servers NAME`, or a cluster of three, that tests may kill and stop. `env` goes to the script."""

    def __init__(self, name: str, folder: Path, **env: str) -> None:
        port = {f"{name.rstrip('3').upper()}_PORT": str(_free_ports())}
        self._name = name
        self._folder = folder / name
        self._env = {**os.environ, "PENSTOCK_SERVERS": str(folder), **port, **env}

    def up(self) -> str:
        """Start what does not run; the URL for `--channel`."""
        done = subprocess.run([SERVERS, self._name, "up"], env=self._env, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.split("\n")[-2]

    def down(self) -> None:
        """Stop it and remove its data."""
        subprocess.run([SERVERS, self._name, "down"], env=self._env, check=True)

    def signal(self, number: int, node: int = 1) -> None:
        """Send a signal to one of its processes."""
        os.kill(int((self._folder / str(node) / "pid").read_text()), number)


@contextlib.contextmanager
def running(name: str, folder: Path, **env: str) -> Iterator[str]:
    """A server of this name until the end of the block; its URL. `env` goes to the script."""
    server = Server(name, folder, **env)
    try:
        yield server.up()
    finally:
        server.down()


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
