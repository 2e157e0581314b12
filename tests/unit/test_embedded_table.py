"""Printer columns and ages in the embedded Kubernetes API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller.embedded.table import find, human_duration, table
from controller.objects.kind import Column, Kind

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
VALUE: dict[str, Any] = {
    "metadata": {
        "name": "bear",
        "annotations": {"example.com/note": "soft"},
        "creationTimestamp": "2026-01-02T03:03:05Z",
    },
    "spec": {"parts": [{"name": "arm", "size": 1}, {"name": "leg", "size": 2}], "on": True},
    "status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "Ok", "status": "True"}]},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".metadata.name", ["bear"]),
        ("metadata.name", ["bear"]),
        ("{.metadata.name}", ["bear"]),
        (r".metadata.annotations.example\.com/note", ["soft"]),
        (".metadata.annotations['example.com/note']", ["soft"]),
        (".spec.parts[1].name", ["leg"]),
        (".spec.parts[*].size", [1, 2]),
        ('.status.conditions[?(@.type=="Ready")].status', ["False"]),
        (".status.conditions[?(@.type == 'Ok')].status", ["True"]),
        (".spec.nothing.at.all", []),
        (".spec.parts[7]", []),
        (".metadata.name.deeper", []),
    ],
)
def test_json_paths(path: str, found: list[object]) -> None:
    """Those that printer columns use."""
    assert find(VALUE, path) == found


def test_a_json_path_that_cannot_be_read() -> None:
    """It says so, with the place."""
    with pytest.raises(ValueError, match=r"from '\[\?\(@\.a>1\)\]'"):
        find(VALUE, ".spec[?(@.a>1)]")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (200, "3m20s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (7 * 3600 + 90, "7h1m"),
        (47 * 3600, "47h"),
        (50 * 3600, "2d2h"),
        (10 * 86400, "10d"),
        (3 * 365 * 86400, "3y"),
        (int(timedelta(days=3 * 365 + 4).total_seconds()), "3y4d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_ages(seconds: int, text: str) -> None:
    """As kubectl shortens them."""
    assert human_duration(seconds) == text


@pytest.mark.parametrize(("custom", "missing"), [(True, None), (False, "<none>")])
def test_cells(custom: bool, missing: str | None) -> None:
    """By type; what is absent is null for a custom resource and <none> for a core kind."""
    columns = (
        Column("On", "boolean", ".spec.on"),
        Column("Size", "integer", ".spec.parts[0].size"),
        Column("Parts", json_path=".spec.parts[0]"),
        Column("Made", "date", ".metadata.creationTimestamp"),
        Column("Count", "integer", cell=lambda value: len(value["spec"]["parts"])),
        Column("Nothing", json_path=".spec.nothing"),
    )
    kind = Kind("toys.example.com", "v1", "Toy", "toys", "toy", columns=columns, custom=custom)
    shown = table(kind, [VALUE], {}, "None", NOW)
    cells = ["bear", True, 1, '{"name":"arm","size":1}', "60s", 2, missing]
    assert shown["rows"] == [{"cells": cells}]


def test_a_kind_without_columns_shows_its_age() -> None:
    """Name and age, as for a CRD without columns."""
    kind = Kind("toys.example.com", "v1", "Toy", "toys", "toy")
    shown = table(kind, [VALUE], {}, "Metadata", NOW)
    assert [column["name"] for column in shown["columnDefinitions"]] == ["Name", "Age"]
    assert shown["rows"][0]["cells"] == ["bear", "60s"]
