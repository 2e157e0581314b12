"""The image of Penstock without Docker: the same folders as the Dockerfile makes, on a base of Debian's packages."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = (3, 11)
CLUSTER = ROOT.parent / "shared" / "cluster"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock-image"
NAME = "localhost/penstock:1"
PACKAGES = "python3.11-minimal,libpython3.11-stdlib,ca-certificates,tzdata,libgcc-s1"
ENVIRONMENT = ("PYTHONPATH=/opt/penstock/lib", "PYTHONDONTWRITEBYTECODE=1", "PENSTOCK_DATA=/var/lib/penstock")


def make_image(folder: Path) -> Path:
    """The image as a docker-archive in `folder`. What changes seldom is kept in the cache."""
    image = folder / "penstock.tar"
    lib = folder / "lib"
    _pip("--no-deps", "--no-build-isolation", "--target", str(lib), str(ROOT))
    layers = [str(_base()), f"{_libraries()}=/opt/penstock/lib", f"{lib}=/opt/penstock/lib"]
    command = [sys.executable, str(CLUSTER / "images" / "mkimage.py"), str(image), NAME]
    command += [part for layer in layers for part in ("--layer", layer)]
    command += [part for value in ENVIRONMENT for part in ("--env", value)]
    command += ["--entrypoint", '["python3.11", "-m", "broker"]', "--cmd", '["serve"]', "--user", "65532:65532"]
    subprocess.run(command, check=True, capture_output=True)
    return image


def _base() -> Path:
    """Debian with Python, nothing else."""
    path = CACHE / "base.tar"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        if shutil.which("mmdebstrap") is None:
            install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "mmdebstrap"]
            subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True)
            subprocess.run(install, check=True, capture_output=True)
        new = CACHE / f"new.{os.getpid()}.tar"
        made = ["mmdebstrap", "--variant=extract", f"--include={PACKAGES}", "bookworm", str(new)]
        subprocess.run(made, check=True, capture_output=True)
        new.rename(path)
    return path


def _libraries() -> Path:
    """The packages that the lock names; the Python that runs this is of the version of the base's."""
    lock = ROOT / "requirements" / "serve.txt"
    path = CACHE / f"lib-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    if not path.exists():
        new = CACHE / f"new.{os.getpid()}"
        _pip("--require-hashes", "-r", str(lock), "--target", str(new))
        new.rename(path)
    return path


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, capture_output=True)
