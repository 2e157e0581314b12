"""ISO 8601 durations in the forms that Knative's parser takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventing.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT0.2S", 0.2),
        ("PT0.25S", 0.25),
        ("PT0,5S", 0.5),
        ("PT.5S", 0.5),
        ("PT1.S", 1.0),
        ("PT-1S", -1.0),
        ("+PT1S", 1.0),
        ("-PT1S", -1.0),
        ("-PT-1S", 1.0),
        ("P0", 0.0),
        ("P0D", 0.0),
        ("PT0S", 0.0),
        ("P1DT", 86_400.0),
        ("P1W", 604_800.0),
        ("P1M", 2_629_746.0),
        ("P1Y", 31_556_952.0),
        ("PT1M", 60.0),
        ("P1DT2H3M4.5S", 93_784.5),
        ("P1Y2M3W4DT5H6M7S", 31_556_952 + 2 * 2_629_746 + 3 * 604_800 + 4 * 86_400 + 5 * 3600 + 6 * 60 + 7),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "P", "PT", "-P", "+PT", "1S", "T1S", "PT1", "P1", "P00", "pt1s", "PT1s", "PT1S1S", "PT1S1M", "PT1M1H", "P1S",
     "P1D1W", "P1H", "PT1D", "PT.S", "PT1..S", "PT1e3S", " PT1S", "PT1S\n", "PT١S", "PT--1S", "5s", "P" + "1" * 200 + "D"],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"write it like PT0\.2S"):
        parse_duration(text)


@given(st.text(alphabet="PTYMWDHS0123456789.,+-", max_size=15))
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        assert isinstance(parse_duration(text), float)
    except ValueError as error:
        assert "ISO 8601" in str(error)  # noqa: PT017 - either end is right
