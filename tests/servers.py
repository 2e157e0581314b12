"""Real servers for tests, by `scripts/servers`: each on a free port, with a folder of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SERVERS = Path(__file__).parents[1] / "scripts" / "servers"


@dataclass(frozen=True)
class Server:
    """What `scripts/servers NAME` runs. `url` is for `--channel`."""

    name: str
    folder: Path
    env: Mapping[str, str]
    url: str

    def send(self, number: signal.Signals, node: int = 1) -> None:
        """Send a signal to the server, or to one of a cluster: SIGKILL, or SIGSTOP and SIGCONT for one that hangs."""
        pid = self.folder / self.name / str(node) / "pid"
        os.kill(int(pid.read_text()), number)
        if number == signal.SIGKILL:
            # Where nobody collects orphans it looks alive for ever.
            pid.unlink()

    def start(self) -> None:
        """Start what was killed again, with the data that it has."""
        _up(self.name, self.env)


@contextlib.contextmanager
def running(name: str, folder: Path, **env: str) -> Iterator[Server]:
    """A server of this name until the end of the block. `env` goes to the script."""
    port = {f"{name.rstrip('3').upper()}_PORT": str(_free_ports())}
    wanted = {**os.environ, "PENSTOCK_SERVERS": str(folder), **port, **env}
    try:
        yield Server(name, folder, wanted, _up(name, wanted))
    finally:
        subprocess.run([SERVERS, name, "down"], env=wanted, check=True)


def _up(name: str, env: Mapping[str, str]) -> str:
    """Start it; the last line that the script prints."""
    done = subprocess.run([SERVERS, name, "up"], env=env, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split("\n")[-2]


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
