"""`penstock bench`: what an event costs on this machine, beside what a bare HTTP request costs."""

from __future__ import annotations

import sys
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from broker.commands.console import USAGE, document, fail, line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker.bench.measure import Figure


class Form(StrEnum):
    """`-o`: a table for eyes, JSON for programs, or Markdown for docs/performance.md."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


def bench(
    runs: Annotated[int, typer.Option(min=1, help="How often each row is measured; the median is shown.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.5, help="How long each run sends events.")] = 5.0,
    row: Annotated[
        list[int] | None, typer.Option("--row", metavar="N", help="Only these rows, counted from 1; may be repeated.")
    ] = None,
    channel: Annotated[
        str,
        typer.Option(metavar="URL", help="The channel; on a server it uses a prefix of its own, and leaves it there."),
    ] = "sqlite:",
    output: Annotated[Form, typer.Option("-o", "--output", help="A table, JSON, or Markdown.")] = Form.TABLE,
) -> None:
    """Measure this installation: the CPU time of an event from POST to settled delivery, in µs and in yardsticks.

    A yardstick is one bare uvicorn request under the same load, measured in turns with Penstock: ratios hold on any
    machine, µs and events per second only on this one. Penstock runs on a new data directory; the load is made by vegeta with 64 connections and events of 1 KB, the subscriber is a small program of ours. Both are built once
    with Go and kept in the user's cache. Leave the machine alone meanwhile.

    For example:

      penstock bench

      penstock bench --row 1 --row 4 --runs 3 -o markdown

      penstock bench --row 1 --channel nats://127.0.0.1:4222
    """
    from rich.console import Console  # noqa: PLC0415 - only what a command needs is imported for it
    from rich.progress import Progress  # noqa: PLC0415 - as above

    from broker.bench.measure import ROWS, BenchFailed, Plan, measure  # noqa: PLC0415 - as above
    from broker.bench.tools import ToolMissing, find_tools  # noqa: PLC0415 - as above

    if not sys.platform.startswith("linux"):
        fail("bench reads CPU times from /proc, which only Linux has")
    if any(not 1 <= number <= len(ROWS) for number in row or ()):
        fail(f"--row: there are rows 1 to {len(ROWS)}", USAGE)
    rows = [ROWS[number - 1] for number in row] if row else list(ROWS)
    console = Console(stderr=True)
    figures = []
    try:
        tools = find_tools(console.print)
        with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
            for one in rows:
                task = progress.add_task(one.name, total=2 * runs)
                told = partial(progress.advance, task)
                figures.append(measure(one, tools, Plan(runs, seconds, channel), told))
    except (BenchFailed, ToolMissing) as error:
        fail(str(error))
    for text in _shown(figures, output):
        line(text)


def _shown(figures: list[Figure], output: Form) -> Iterator[str]:
    if output is Form.JSON:
        for figure in figures:
            document(
                {
                    "row": figure.row.name,
                    "triggers": figure.row.triggers,
                    "matching": figure.row.matching,
                    "rate": figure.row.rate,
                    "microsPerEvent": round(figure.micros, 1),
                    "yardstickMicros": round(figure.yardstick, 1),
                    "yardsticks": round(figure.ratio, 3),
                    "sinkMicros": round(figure.sink, 1),
                    "eventsPerSecond": round(figure.per_second),
                }
            )
        return
    header = ("what", "yardstick", "CPU per event", "in yardsticks", "events/s", "sink, per delivery")
    cells = [
        (
            figure.row.name,
            f"{figure.yardstick:.0f} µs",
            f"{figure.micros:.0f} µs",
            f"{figure.ratio:.2f}",
            f"{figure.per_second:,.0f}",
            f"{figure.sink:.0f} µs",
        )
        for figure in figures
    ]
    if output is Form.MARKDOWN:
        yield f"| {' | '.join(header)} |"
        yield f"|{'---|' * len(header)}"
        yield from (f"| {' | '.join(each)} |" for each in cells)
        return
    widths = [max(len(each[column]) for each in (header, *cells)) for column in range(len(header))]
    for each in (header, *cells):
        first, *others = (text.rjust(width) for text, width in zip(each, widths, strict=True))
        yield "  ".join((each[0].ljust(len(first)), *others))
