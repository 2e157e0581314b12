"""How `penstock bench` shows what it measured. What it measures is for people to run: nothing here looks at a clock."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from broker.bench import measure, tools
from broker.bench.measure import ROWS, BenchFailed, Figure, Plan, Row
from broker.cli import app

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Row]:
    """The rows that were measured, each with the same figures."""
    rows: list[Row] = []

    def fake(row: Row, _: object, plan: Plan, told: Callable[[], None]) -> Figure:
        assert plan == Plan(2, 1.5)
        told()
        rows.append(row)
        return Figure(row, 220.4, 90.1, 2.446, 19.6, 3999.7)

    monkeypatch.setattr(measure, "measure", fake)
    monkeypatch.setattr(tools, "find_tools", lambda _: tools.Tools(tmp_path, tmp_path))
    return rows


def run(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["bench", "--runs", "2", "--seconds", "1.5", *args])
    return result.exit_code, result.stdout, result.stderr


def test_a_table_has_the_yardstick_beside_each_figure(measured: list[Row]) -> None:
    code, out, _ = run()
    assert code == 0
    assert measured == list(ROWS)
    lines = out.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split("  ")[0] == "1 Trigger"
    assert lines[1].split()[2:] == ["90", "µs", "220", "µs", "2.45", "4,000", "20", "µs"]


def test_one_row_as_json_and_as_markdown(measured: list[Row]) -> None:
    _, out, _ = run("--row", "4", "-o", "json")
    found = json.loads(out)
    assert (found["rate"], found["microsPerEvent"], found["yardsticks"]) == (500, 220.4, 2.446)
    _, out, _ = run("--row", "1", "-o", "markdown")
    assert out.splitlines()[1:] == [
        "|---|---|---|---|---|---|",
        "| 1 Trigger | 90 µs | 220 µs | 2.45 | 4,000 | 20 µs |",
    ]
    assert measured == [ROWS[3], ROWS[0]]


def test_faults_are_one_line(measured: list[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("--row", "7")[::2] == (2, "penstock: --row: there are rows 1 to 4\n")
    assert measured == []

    def fail(*_: object) -> Figure:
        raise BenchFailed("not everything was delivered")

    monkeypatch.setattr(measure, "measure", fail)
    assert run()[::2] == (1, "penstock: not everything was delivered\n")
