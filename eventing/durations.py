"""ISO 8601 durations, in the forms that Knative's parser takes."""

from __future__ import annotations

import re
from typing import Final

_SECONDS: Final = {
    "years": 31_556_952.0,  # 365.2425 days, the mean of the Gregorian calendar
    "months": 2_629_746.0,  # a twelfth of that
    "weeks": 604_800.0,
    "days": 86_400.0,
    "hours": 3_600.0,
    "minutes": 60.0,
    "seconds": 1.0,
}
_LONGEST: Final = 100


def _part(name: str, letter: str) -> str:
    return rf"(?:(?P<{name}>[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)){letter})?"


_DURATION: Final = re.compile(
    r"(?P<sign>[+-]?)P(?:(?P<zero>0)|"
    + _part("years", "Y")
    + _part("months", "M")
    + _part("weeks", "W")
    + _part("days", "D")
    + r"(?:T"
    + _part("hours", "H")
    + _part("minutes", "M")
    + _part("seconds", "S")
    + r")?)"
)


def parse_duration(text: str) -> float:
    """Seconds in a duration like `PT0.2S`, `P1DT12H` or `-PT1M`; it may be negative.

    Every part may have a sign and a fraction, with a point or a comma. A month is 2,629,746 s, a year twelve of them.
    Raises ValueError with a sentence that says how a duration is written.
    """
    found = _DURATION.fullmatch(text) if len(text) <= _LONGEST else None
    parts = {} if found is None else {unit: found[unit] for unit in _SECONDS if found[unit] is not None}
    if found is None or not (parts or found["zero"]):
        raise ValueError("this is no ISO 8601 duration: write it like PT0.2S, PT1M30S or P1D")
    seconds = sum((float(number.replace(",", ".")) * _SECONDS[unit] for unit, number in parts.items()), 0.0)
    return 0.0 - seconds if found["sign"] == "-" else seconds
