"""Sizes as Kubernetes writes them: `1Gi`, `500M`, `1048576`."""

from __future__ import annotations

import re
from typing import Final

_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kMGTPE]|[KMGTPE]i)?")
_FACTORS: Final = {
    "": 1,
    **{letter: 1000**power for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", 1)},
}


def parse_bytes(text: str) -> int:
    """Bytes in a Kubernetes quantity; a part of a byte counts as a whole one.

    Raises ValueError with a sentence that says how a size is written.
    """
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise ValueError("this is no size: write it like 1Gi, 500M or 1048576")
    return -int(-float(found[1]) * _FACTORS[found[2] or ""] // 1)
