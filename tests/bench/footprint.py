"""What `penstock serve` costs when it does nothing: time to ready, memory, CPU.

    python -m tests.bench.footprint [COMMAND ...]

COMMAND is how Penstock is started (default: this Python with `-m broker`); a new data directory and the helloworld sample
are used. Prints the time from the start of the process to the first 200 of /readyz, three times.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.main_job import cpu_seconds, memory_mb
from tests.system.support import Penstock

IDLE = 20.0


def main(command: list[str]) -> None:
    """Start three times, then watch the last one idle."""
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(3):
            one = Penstock(Path(scratch) / "data", "-f", "samples/helloworld")
            arguments = ["serve", "--data", str(one.data), "-f", "samples/helloworld"]
            arguments += ["--listen", f"127.0.0.1:{one.port}", "--api", f"127.0.0.1:{one.api_port}"]
            began = time.monotonic()
            process = subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while not one.ready():
                time.sleep(0.005)
            print(f"start {number + 1}: ready after {time.monotonic() - began:.2f} s")
            if number < 2:
                process.terminate()
                process.wait()
        time.sleep(3)
        before = cpu_seconds(process.pid)
        time.sleep(IDLE)
        idle = (cpu_seconds(process.pid) - before) / IDLE * 1000
        print(f"idle: {idle:.1f} ms of CPU a second, {memory_mb(process.pid):.0f} MB at most")
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main(sys.argv[1:] or [sys.executable, "-m", "broker"])
