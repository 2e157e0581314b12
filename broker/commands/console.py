"""How commands speak: results on stdout, everything else on stderr, one plain line for an error, fixed exit codes."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

FAILURE = 1
USAGE = 2
"""Exit codes: something did not work, and the command was called in a wrong way."""


class Output(StrEnum):
    """`-o`: a table for eyes, or one JSON document a line for programs."""

    TABLE = "table"
    JSON = "json"


def fail(message: str, code: int = FAILURE) -> NoReturn:
    """End the command with one line on stderr."""
    note(f"penstock: {message}")
    raise typer.Exit(code)


def note(message: str) -> None:
    """One line for people, on stderr so that stdout has results only."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201 - printing is what commands do


def line(text: str) -> None:
    """One line of the result, on stdout at once: the next command of a pipe may wait for it.

    Where that command has gone (`| head`), the work goes on and is no longer shown.
    """
    try:
        print(text, flush=True)  # noqa: T201 - as above
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def document(value: Mapping[str, Any]) -> None:
    """One JSON document of the result, on a line of its own."""
    line(json.dumps(value, separators=(",", ":")))


def printable(text: str) -> str:
    """`text` on one line, without characters that would move the cursor or colour the terminal of who looks at it."""
    return "".join(c if c.isprintable() else " " if c in "\r\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def count(number: int, noun: str) -> str:
    """`1 event`, `2 events`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
