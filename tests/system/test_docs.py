"""The commands in the documentation do what it says they do.

A fenced block marked `console` has commands (`$ ` and continued with `> `) and what they print. All blocks of a file run in one
shell. Each line of the expected output must come, in whatever order jobs in the background print it; `...` and runs of blanks stand for
anything.
Ports of the documentation are replaced by free ones.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.system.support import free_port

ROOT = Path(__file__).parent.parent.parent
DONE = "@@done@@"
CURL = """
import argparse, httpx
parser = argparse.ArgumentParser()
parser.add_argument("url")
parser.add_argument("-s", action="store_true")
parser.add_argument("-o")
parser.add_argument("-w", default="")
parser.add_argument("-H", action="append", default=[])
parser.add_argument("-d", default="")
given = parser.parse_args()
headers = dict(header.split(": ", 1) for header in given.H)
answer = httpx.post(given.url, headers=headers, content=given.d)
print("" if given.o else answer.text, end="")
print(given.w.replace("%{http_code}", str(answer.status_code)).replace(chr(92) + "n", chr(10)), end="")
"""
PATIENCE = 30.0
"""Seconds to wait for the next line."""


def _blocks(text: str) -> list[tuple[str, list[str]]]:
    """The commands of a document, each with the lines that it is expected to print."""
    commands: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                commands.append((line[2:], []))
            elif line.startswith("> "):
                commands[-1] = (f"{commands[-1][0]}\n{line[2:]}", commands[-1][1])
            else:
                commands[-1][1].append(line)
    return commands


def _pattern(line: str) -> re.Pattern[str]:
    parts = [re.sub(r"(\\?\s)+", r"\\s+", re.escape(part.strip())) for part in line.split("...")]
    return re.compile(".*".join(parts))


class Shell:
    """One bash for all commands of a document: background jobs and variables live on."""

    def __init__(self, cwd: Path, env: dict[str, str]) -> None:
        self._bash = subprocess.Popen(
            ["bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cwd,
            env=env,
            bufsize=1,
            start_new_session=True,
        )

        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._bash.stdout is not None
        for line in self._bash.stdout:
            self._lines.put(line.rstrip("\n"))

    def run(self, command: str, expected: list[str]) -> None:
        """Run the command, and wait until everything expected was printed: it may come from a job in the background."""
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"{command}\nprintf '\\n{DONE}\\n'\n")
        self._bash.stdin.flush()
        missing = [line for line in expected if line.strip(". ")]
        lines: list[str] = []
        done = False
        while missing or not done:
            try:
                line = self._lines.get(timeout=PATIENCE)
            except queue.Empty:
                raise AssertionError(f"{command}\nshould print {missing}\nand printed {lines}") from None
            # A job in the background may be in the middle of a line of its own.
            if line.endswith(DONE):
                done = True
                line = line.removesuffix(DONE)
            lines.append(line)
            printed = next((one for one in missing if _pattern(one).search(line)), None)
            if printed is not None:
                missing.remove(printed)

    def close(self) -> None:
        os.killpg(self._bash.pid, 9)
        self._bash.wait()
        self._reader.join()
        for stream in (self._bash.stdin, self._bash.stdout):
            if stream is not None:
                stream.close()


@pytest.mark.system
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "document",
    [
        "docs/getting-started.md",
        "docs/nats.md",
        "samples/helloworld/README.md",
        "samples/reply-chain/README.md",
        "samples/dead-letter/README.md",
    ],
)
def test_the_commands_of_a_document(document: str, tmp_path: Path) -> None:
    text = (ROOT / document).read_text()
    ports = {
        shown: str(free_port()) for shown in ("8080", "8001", "8090", "9000", "9001", "9002", "9003", "9004", "4222")
    }
    checkout = _checkout(tmp_path, ports)
    env = {**os.environ, "PORT": ports["8090"], "PATH": f"{os.environ['PATH']}:{checkout}/.bin"}
    env |= {"PENSTOCK_LISTEN": f"127.0.0.1:{ports['8080']}", "PENSTOCK_API": f"127.0.0.1:{ports['8001']}"}
    env |= {"PENSTOCK_URL": f"http://{env['PENSTOCK_LISTEN']}"}
    env |= {"NATS_PORT": ports["4222"], "PENSTOCK_SERVERS": str(tmp_path / "servers")}
    shell = Shell(checkout, env)
    commands = _blocks(_with(ports, text))
    assert len(commands) > 2, "the document has console blocks"
    try:
        for command, expected in commands:
            shell.run(command, expected)
    finally:
        shell.close()
        # Where the document did not get that far. A server that is not there is nothing.
        subprocess.run([checkout / "scripts/servers", "nats", "down"], env=env, check=True)


def _with(ports: dict[str, str], text: str) -> str:
    return re.sub(r"\b(8080|8001|8090|900[0-4]|4222)\b", lambda found: ports[found[0]], text)


def _checkout(tmp_path: Path, ports: dict[str, str]) -> Path:
    """What a reader has: scripts, samples and a virtual environment; here with the ports of this run."""
    checkout = tmp_path / "penstock"
    (checkout / "scripts").mkdir(parents=True)
    shutil.copytree(ROOT / "samples", checkout / "samples")
    for manifest in checkout.glob("samples/*/*.yaml"):
        manifest.write_text(_with(ports, manifest.read_text()))
    shutil.copytree(ROOT / "scripts/servers.d", checkout / "scripts/servers.d")
    shutil.copy(ROOT / "scripts/servers", checkout / "scripts/servers")
    (checkout / ".venv").symlink_to(sys.prefix)
    script = checkout / "scripts/penstock"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m broker "$@"\n')
    script.chmod(0o755)
    if not shutil.which("curl"):
        _make_curl(checkout / ".bin")
    return checkout


def _make_curl(folder: Path) -> None:
    """A stand-in for curl on a machine that has only Python: the options that the documentation uses, nothing else."""
    folder.mkdir()
    curl = folder / "curl"
    curl.write_text(f"#!{sys.executable}\n{CURL}")
    curl.chmod(0o755)
