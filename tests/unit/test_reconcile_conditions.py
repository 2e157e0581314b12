"""Conditions: Ready follows from the others, and a time changes only when something else does."""

from __future__ import annotations

from typing import Any

import pytest

from controller.reconcile.conditions import FALSE, INFO, UNKNOWN, Condition, to_json, with_ready


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        pytest.param([Condition("A"), Condition("B", reason="fine")], Condition("Ready"), id="all-true"),
        pytest.param(
            [Condition("A", UNKNOWN, "u"), Condition("B", FALSE, "f", "m"), Condition("C", FALSE, "g")],
            Condition("Ready", FALSE, "f", "m"),
            id="first-false-before-unknown",
        ),
        pytest.param(
            [Condition("A"), Condition("B", UNKNOWN, "u", "m")], Condition("Ready", UNKNOWN, "u", "m"), id="unknown"
        ),
        pytest.param([Condition("A"), Condition("B", FALSE, "f", severity=INFO)], Condition("Ready"), id="info"),
    ],
)
def test_ready(conditions: list[Condition], expected: Condition) -> None:
    """Ready says what the first unhappy condition says; those of severity Info do not count."""
    assert with_ready(conditions)[-1] == expected


def test_conditions_are_sorted_and_lean() -> None:
    """Conditions stand in the order of their types, without empty fields."""
    written = to_json([Condition("B", FALSE, "r", "m", INFO), Condition("A")], {}, "now")
    assert written == [
        {"type": "A", "status": "True", "lastTransitionTime": "now"},
        {
            "type": "B",
            "status": "False",
            "reason": "r",
            "message": "m",
            "severity": "Info",
            "lastTransitionTime": "now",
        },
    ]


@pytest.mark.parametrize(
    ("change", "time"),
    [
        ({}, "then"),
        ({"status": "True"}, "now"),
        ({"message": "other"}, "now"),
        ({"severity": "Info"}, "now"),
        ({"lastTransitionTime": ""}, "now"),
    ],
    ids=["same", "status", "message", "severity", "no-time"],
)
def test_time_of_a_condition(change: dict[str, Any], time: str) -> None:
    """A condition that says what it said before keeps its time."""
    present = {"type": "A", "status": "False", "reason": "r", "message": "m", "lastTransitionTime": "then"} | change
    obj = {"status": {"conditions": [present]}}
    assert to_json([Condition("A", FALSE, "r", "m")], obj, "now")[0]["lastTransitionTime"] == time
