"""`penstock backup`: copies the data directory while `penstock serve` uses it."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer

from broker.commands.console import fail, line

if TYPE_CHECKING:
    from rich.progress import Progress


def backup(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="Where the copy goes: a new or an empty directory.")],
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="What `penstock serve` runs on.  [default: the user's data directory]"),
    ] = None,
) -> None:
    """Copy all events, cursors, parked and dead deliveries, and all objects, as they are at one moment.

    Penstock goes on meanwhile, and nobody waits. The copy is a data directory: what was delivered after the backup is
    delivered again when it is served.

    For example:

      penstock backup /backups/monday

      penstock serve --data /backups/monday
    """
    from broker.settings import default_data  # noqa: PLC0415 - only what a command needs is imported for it
    from channels.errors import StoreError  # noqa: PLC0415 - as above

    try:
        for file in copy(data or default_data(), target):
            line(f"{file.name}  {file.stat().st_size / 1024 / 1024:.1f} MiB")
    except (StoreError, OSError) as error:
        fail(str(error))


def copy(data: Path, target: Path) -> list[Path]:
    """Copy the files of a data directory; the ones that were made. Raises StoreError and OSError."""
    from rich.console import Console  # noqa: PLC0415 - only what a command needs is imported for it
    from rich.progress import Progress  # noqa: PLC0415 - as above

    from broker.settings import OBJECTS  # noqa: PLC0415 - as above
    from channels.errors import StoreError  # noqa: PLC0415 - as above
    from channels.sqlite.backend import STORE  # noqa: PLC0415 - as above

    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StoreError(f"{target} is no empty directory: name a new one")
    if not (data / STORE).exists():
        raise StoreError(f"there is no store in {data}: name the directory that `penstock serve` uses with --data")
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        # Events first: an object that is made meanwhile is known to its copy and begins anew, while a Trigger whose cursor
        # is in the copy and which itself is not would be taken for deleted.
        return [_copy_one(data / name, target / name, progress) for name in (STORE, OBJECTS) if (data / name).exists()]


def _copy_one(source: Path, target: Path, progress: Progress) -> Path:
    from channels.sqlite.backup import copy_database  # noqa: PLC0415 - only what a command needs is imported for it

    task = progress.add_task(source.name)
    copy_database(source, target, lambda done, total: progress.update(task, completed=done, total=total))
    return target
