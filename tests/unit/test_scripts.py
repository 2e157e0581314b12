"""The shell scripts, run for real on a copy of themselves, with a Python that only writes down what it is asked to do."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = [
    "scripts/penstock",
    "scripts/test",
    "scripts/lib/setup.sh",
    ".ci/run",
    "pyproject.toml",
    "requirements/serve.txt",
]
TOOLS = ["sh", "cat", "chmod", "cmp", "cp", "date", "dirname", "head", "ln", "mkdir", "mv", "readlink", "rm"]

PYTHON = f"""#!/bin/sh
# `-c` is real. A virtual environment is this script once more; pip and programs are only written down.
if [ "$1" = -c ]; then
  case $2 in *fcntl*) echo lock >>"$LOG";; esac
  exec {sys.executable} "$@"
fi
echo "$@" >>"$LOG"
case "$*" in
  "-m venv"*) mkdir -p "$4/bin"; cp "$0" "$4/bin/python"; if [ -n "${{GATE:-}}" ]; then cat "$GATE"; fi;;
  "-m pip install"*) echo "pip speaks"; if [ -n "${{PIP_FAILS:-}}" ]; then exit 1; fi;;
  "-P -m broker"*) echo "the answer";;
esac
"""


@dataclass
class Checkout:
    """A checkout in a folder of its own, a PATH with only the tools that are asked for, and a log of what was run."""

    root: Path
    bin: Path
    log: Path

    def run(self, script: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        with self.start(script, *args, **env) as process:
            out, err = process.communicate(timeout=30)
        return subprocess.CompletedProcess([script], process.returncode, out, err)

    def start(self, script: str, *args: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.root / script, *args],
            env={"PATH": str(self.bin), "LOG": str(self.log), "HOME": str(self.bin), **env},
            cwd=self.bin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ran(self) -> list[str]:
        """What Python was asked for since the last call, in order, without the paths of this test."""
        lines = self.log.read_text(encoding="utf-8") if self.log.exists() else ""
        self.log.unlink(missing_ok=True)
        return lines.replace(f"{self.root}", "ROOT").splitlines()

    def program(self, name: str, text: str) -> None:
        write_program(self.bin / name, text)


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root = tmp_path / "a checkout"
    for name in [*COPIED, "requirements/dev.txt"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, f"{tool} is needed to run the scripts"
        (tools / tool).symlink_to(found)
    made = Checkout(root, tools, tmp_path / "log")
    made.program("python3", PYTHON)
    return made


PIP = "-m pip install --quiet --no-input --disable-pip-version-check"
INSTALL = [
    f"{PIP} --require-hashes -r ROOT/requirements/serve.txt",
    f"{PIP} --no-deps --no-build-isolation -e ROOT",
]
FIRST_USE = ["lock", "-m venv --clear ROOT/.venv", *INSTALL, "-P -m broker version"]


def test_first_use_makes_the_environment_and_runs(checkout: Checkout) -> None:
    """Pinned and hashed packages, then ourselves without any look at an index; only the command prints to stdout."""
    done = checkout.run("scripts/penstock", "version")
    assert (done.returncode, done.stdout) == (0, "the answer\n")
    assert done.stderr.startswith("penstock: setting up .venv, once")
    assert checkout.ran() == FIRST_USE


def test_later_starts_run_at_once(checkout: Checkout) -> None:
    """Neither Python nor pip is started for a check, and nothing is printed."""
    checkout.run("scripts/penstock", "version")
    checkout.ran()
    done = checkout.run("scripts/penstock", "send", "--data", "a b")
    assert (done.stdout, done.stderr) == ("the answer\n", "")
    assert checkout.ran() == ["-P -m broker send --data a b"]


@pytest.mark.parametrize("changed", ["pyproject.toml", "requirements/serve.txt"])
def test_changed_pins_are_installed(checkout: Checkout, changed: str) -> None:
    """After a pull that changes what is needed, the environment is brought up to date, not made anew."""
    checkout.run("scripts/penstock", "version")
    checkout.ran()
    with (checkout.root / changed).open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert "updating .venv" in checkout.run("scripts/penstock", "version").stderr
    assert checkout.ran() == ["lock", *INSTALL, "-P -m broker version"]


def test_a_failed_installation_is_not_taken_for_an_environment(checkout: Checkout) -> None:
    """The exit code and the text say so, and the next start begins from nothing."""
    failed = checkout.run("scripts/penstock", "version", PIP_FAILS="1")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "pip failed" in failed.stderr
    checkout.ran()
    assert checkout.run("scripts/penstock", "version").returncode == 0
    assert checkout.ran() == FIRST_USE


def test_a_moved_checkout_is_made_again(checkout: Checkout, tmp_path: Path) -> None:
    """A virtual environment holds its own path, so a copy of it would run the code of the old place."""
    checkout.run("scripts/penstock", "version")
    checkout.root.rename(tmp_path / "moved")
    moved = Checkout(tmp_path / "moved", checkout.bin, checkout.log)
    moved.ran()
    assert moved.run("scripts/penstock", "version").returncode == 0
    assert moved.ran() == FIRST_USE


def test_a_python_that_went_away_is_replaced(checkout: Checkout) -> None:
    """An upgrade of the system leaves a dangling link in the environment."""
    checkout.run("scripts/penstock", "version")
    (checkout.root / ".venv/bin/python").unlink()
    checkout.ran()
    assert checkout.run("scripts/penstock", "version").returncode == 0
    assert checkout.ran() == FIRST_USE


def test_two_first_starts_at_once_make_one_environment(checkout: Checkout, tmp_path: Path) -> None:
    """The second waits for the first and then finds everything done."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with checkout.start("scripts/penstock", "version", GATE=str(gate)) as first:
        with gate.open("w", encoding="utf-8"):  # opens when the first is inside `-m venv`, and holds it there
            second = checkout.start("scripts/penstock", "version", GATE=str(gate))
            while checkout.log.read_text(encoding="utf-8").count("lock\n") < 2:
                assert second.poll() is None
        with second:
            second.communicate(timeout=30)
        first.communicate(timeout=30)
    assert (first.returncode, second.returncode) == (0, 0)
    ran = checkout.ran()
    assert sorted(ran) == sorted([*FIRST_USE, "lock", "-P -m broker version"])


def test_the_newest_python_that_can_do_it_is_taken(checkout: Checkout) -> None:
    """Old ones and ones that cannot start are passed over."""
    checkout.program("python3.13", "#!/bin/sh\nexit 127\n")
    checkout.program("python3.12", PYTHON.replace("the answer", "from 3.12"))
    assert checkout.run("scripts/penstock", "version").stdout == "from 3.12\n"


def test_without_a_fitting_python_it_says_what_to_install(checkout: Checkout) -> None:
    """One line, with the command that mends it."""
    checkout.program("python3", "#!/bin/sh\nexit 1\n")
    done = checkout.run("scripts/penstock", "version")
    assert done.returncode == 1
    assert done.stderr.startswith("penstock: Python 3.11 or newer was not found. On Debian and Ubuntu: apt install")


def test_without_the_venv_module_it_says_what_to_install(checkout: Checkout) -> None:
    """Debian ships Python without it."""
    checkout.program("python3", '#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\n')
    done = checkout.run("scripts/penstock", "version")
    assert done.returncode == 1
    assert "apt install python3-venv" in done.stderr
    assert not (checkout.root / ".venv").exists()


def test_it_runs_through_a_symbolic_link(checkout: Checkout) -> None:
    """So that it can stand in a folder of the PATH."""
    (checkout.bin / "penstock").symlink_to(checkout.root / "scripts/penstock")
    link = Checkout(checkout.bin, checkout.bin, checkout.log)
    assert link.run("penstock", "version").stdout == "the answer\n"


STEPS = ["ruff", "mypy", "lint-imports", "pytest", "kubectl"]


@pytest.fixture
def checks(checkout: Checkout) -> Checkout:
    """A checkout whose checks only write down that they ran; `FAILS` names one that fails."""
    for name in STEPS:
        checkout.program(name, f'#!/bin/sh\necho "{name} $*" >>"$LOG"\n[ "${{FAILS:-}}" != "{name} $*" ]\n')
    write_program(checkout.root / "scripts/crds", '#!/bin/sh\necho "crds $*" >>"$LOG"\n')
    write_program(checkout.root / "scripts/servers.d/nats", '#!/bin/sh\necho "nats $*" >>"$LOG"\n')
    checkout.run("scripts/test")
    checkout.ran()
    return checkout


CHECKS = [
    "ruff check",
    "ruff format --check",
    "mypy ",
    "lint-imports ",
    "crds --check",
    "nats ensure_binary",
    "pytest ",
]


def test_the_tests_run_every_check(checks: Checkout) -> None:
    """In this order, each with its name and time."""
    done = checks.run("scripts/test")
    assert done.returncode == 0
    assert checks.ran() == CHECKS
    assert "== mypy\n== mypy: ok, " in done.stdout


def test_the_first_check_that_fails_ends_the_tests(checks: Checkout) -> None:
    """What comes after it does not run."""
    done = checks.run("scripts/test", FAILS="mypy ")
    assert done.returncode == 1
    assert "== mypy: FAILED" in done.stdout
    assert checks.ran() == CHECKS[:3]


def test_arguments_mean_pytest_alone(checks: Checkout) -> None:
    """They reach pytest as they are."""
    assert checks.run("scripts/test", "-k", "lanes").returncode == 0
    assert checks.ran() == ["nats ensure_binary", "pytest -k lanes"]


def test_without_kubectl_nothing_is_skipped(checks: Checkout) -> None:
    """It says where to get it and fails, before anything ran."""
    (checks.bin / "kubectl").unlink()
    done = checks.run("scripts/test")
    assert done.returncode == 1
    assert "kubectl was not found" in done.stderr
    assert checks.ran() == []


def test_the_command_uses_the_environment_of_the_tests(checks: Checkout) -> None:
    """It has all that the command needs, so a developer does not install twice."""
    assert checks.run("scripts/penstock", "version").stdout == "the answer\n"
    assert checks.ran() == ["-P -m broker version"]


def test_ci_runs_the_tests_and_nothing_softer(checkout: Checkout) -> None:
    """No arguments, whatever it was given, and the exit code is that of the tests."""
    write_program(checkout.root / "scripts/test", '#!/bin/sh\necho "CI=$CI $#"\nexit 7\n')
    done = checkout.run(".ci/run", "-k", "one")
    assert (done.stdout, done.returncode) == ("CI=1 0\n", 7)
