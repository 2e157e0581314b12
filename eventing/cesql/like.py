"""Patterns of LIKE: `%` is any run of characters, `_` is one, and a backslash before either means the character itself.

Time is linear in the length of the text, whatever the pattern: whoever writes filters shares the process with others.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_PIECES: Final = re.compile(r"\\[%_]|.", re.DOTALL)
_ANY: Final = None
"""`_` among the characters of a part."""

_Part = tuple[str | None, ...]


def matcher(pattern: str) -> Callable[[str], bool]:
    """What decides whether a whole text matches, compiled once."""
    first, *others = _parts(pattern)
    if not others:
        return _fixed(first)
    *middle, last = others
    if not any(middle) and not first + last:
        return lambda text: True  # noqa: ARG005 - % takes every text
    if not any(middle) and not last and _ANY not in first:
        return _starts("".join(map(str, first)))
    if not any(middle) and not first and _ANY not in last:
        return _ends("".join(map(str, last)))
    return _Runs(first, tuple(each for each in middle if each), last)


def _parts(pattern: str) -> list[_Part]:
    """What stands between the `%`."""
    parts: list[list[str | None]] = [[]]
    for piece in _PIECES.findall(pattern):
        if piece == "%":
            parts.append([])
        else:
            parts[-1].append(_ANY if piece == "_" else piece[-1])
    return [tuple(part) for part in parts]


def _fixed(part: _Part) -> Callable[[str], bool]:
    if _ANY not in part:
        whole = "".join(map(str, part))
        return lambda text: text == whole
    regex = _regex(part)
    return lambda text: regex.fullmatch(text) is not None


def _starts(prefix: str) -> Callable[[str], bool]:
    return lambda text: text.startswith(prefix)


def _ends(suffix: str) -> Callable[[str], bool]:
    return lambda text: text.endswith(suffix)


def _regex(part: _Part) -> re.Pattern[str]:
    """Of fixed length, so that nothing is ever tried twice."""
    return re.compile("".join("." if each is _ANY else re.escape(each) for each in part), re.DOTALL)


class _Runs:
    """A beginning, an end, and parts between them that are looked for from left to right: the first place is as good as
    any other.
    """

    def __init__(self, first: _Part, middle: tuple[_Part, ...], last: _Part) -> None:
        self._first = _regex(first)
        self._last = _regex(last)
        self._lengths = len(first), len(last)
        self._finders = [_plain_finder(each) if _ANY not in each else _finder(each) for each in middle]

    def __call__(self, text: str) -> bool:
        position, after = self._lengths[0], len(text) - self._lengths[1]
        if position > after or self._first.match(text) is None or self._last.match(text, after) is None:
            return False
        for find in self._finders:
            position = find(text, position, after)
            if position < 0:
                return False
        return True


def _plain_finder(part: _Part) -> Callable[[str, int, int], int]:
    """Where the part ends that is found first in a section of a text; -1 where there is none."""
    sought = "".join(map(str, part))

    def find(text: str, start: int, end: int) -> int:
        found = text.find(sought, start, end)
        return found + len(sought) if found >= 0 else -1

    return find


def _finder(part: _Part) -> Callable[[str, int, int], int]:
    """The same for a part with `_` in it. Each bit of a number is a place in the part that may have been reached, so
    that all of them are looked at together (Baeza-Yates and Gonnet, 1992).
    """
    reached_by_any = sum(1 << place for place, each in enumerate(part) if each is _ANY)
    reached_by: dict[str, int] = {}
    for place, each in enumerate(part):
        if each is not _ANY:
            reached_by[each] = reached_by.get(each, reached_by_any) | 1 << place
    whole = 1 << (len(part) - 1)

    def find(text: str, start: int, end: int) -> int:
        reached = 0
        for position in range(start, end):
            reached = (reached << 1 | 1) & reached_by.get(text[position], reached_by_any)
            if reached & whole:
                return position + 1
        return -1

    return find
