"""From the text of a CESQL expression to its tokens (CloudEvents SQL 1.0, section 2)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from eventing.errors import InvalidFilter

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LENGTH: Final = 16_384
"""Characters that an expression may have: what it costs to evaluate one grows with its length."""

KEYWORDS: Final = frozenset({"AND", "OR", "XOR", "NOT", "LIKE", "EXISTS", "IN", "TRUE", "FALSE"})

_WIDTH: Final = 60
_MEANT: Final = {"!": "!= or NOT", "&": "AND", "|": "OR", "\N{RIGHT SINGLE QUOTATION MARK}": "'"}
# As in the grammar, a sign right before digits belongs to the number: `n-1` is a name and a number, not a difference.
_TOKEN: Final = re.compile(
    r"""
    (?P<space>  [ \t\r\n]+ )
  | (?P<text>   '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" )
  | (?P<number> [+-][0-9]+ | [0-9]+(?![A-Za-z0-9_]) )
  | (?P<word>   [A-Za-z0-9][A-Za-z0-9_]* )
  | (?P<symbol> <> | != | >= | <= | [-+*/%=<>(),] )
    """,
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """`kind` is text, number, word, symbol, keyword or end. The `text` of a keyword is in upper case."""

    kind: str
    text: str
    start: int
    end: int

    def __str__(self) -> str:
        if self.kind == "end":
            return "the end"
        return _printable(self.text if len(self.text) <= _WIDTH else f"{self.text[:_WIDTH]}...")


def tokenize(text: str, path: str) -> Iterator[Token]:
    """The tokens, an `end` last. Raises InvalidFilter at the first character that is part of none."""
    if len(text) > MAX_LENGTH:
        raise InvalidFilter(path, f"the expression has {len(text)} characters, more than {MAX_LENGTH}: make it shorter")
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise invalid(text, position, _unknown(text[position]), path)
        kind, word = str(found.lastgroup), found[0]
        if kind == "text" and text[found.end() : found.end() + 1] == word[0]:
            raise invalid(text, found.end(), rf"a quote inside a string is written \{word[0]}", path)
        if kind == "word" and word.upper() in KEYWORDS:
            kind, word = "keyword", word.upper()
        if kind != "space":
            yield Token(kind, word, position, found.end())
        position = found.end()
    yield Token("end", "", position, position)


def invalid(text: str, position: int, detail: str, path: str) -> InvalidFilter:
    """The error for a fault at `position`, counted from 0: what is wrong, where, and the line with a mark below it."""
    begin = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    line = text[begin : end if end >= 0 else len(text)]
    first = max(0, position - begin - _WIDTH)
    shown = _printable(line[first : first + 2 * _WIDTH])
    number = text.count("\n", 0, position) + 1
    where = f"line {number}, " if "\n" in text else ""
    mark = " " * (position - begin - first) + "^"
    return InvalidFilter(path, f"{detail} ({where}position {position - begin + 1})\n  {shown.rstrip()}\n  {mark}")


def _unknown(character: str) -> str:
    if character in "'\"":
        return f"the string that begins with {character} here has no end"
    shown = character if character.isascii() and character.isprintable() else f"U+{ord(character):04X}"
    meant = _MEANT.get(character)
    return f"the character {shown} has no meaning here" + (f": write {meant}" if meant else "")


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)
