"""The values of CESQL and what evaluation may end in instead: the types, the casts and the kinds of errors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from eventing.cesql.syntax import Span, Value

_INTEGER: Final = re.compile(r"([+-]?)0*([0-9]+)")
_INT_MAX: Final = 2**31 - 1
_INT_MIN: Final = -(2**31)
_LONGEST_QUOTE: Final = 40


class ErrorKind(StrEnum):
    """The kinds of errors that CloudEvents SQL 1.0 (section 3.3) names; `parse` is an InvalidFilter here."""

    PARSE = "parse"
    MATH = "math"
    CAST = "cast"
    MISSING_ATTRIBUTE = "missingAttribute"
    MISSING_FUNCTION = "missingFunction"
    FUNCTION_EVALUATION = "functionEvaluation"
    GENERIC = "generic"


@dataclass(frozen=True, slots=True, eq=False)
class Failure:
    """An error of evaluation, the value that the operator or function at fault has in its place, and where that is."""

    kind: ErrorKind
    detail: str
    value: Value
    span: Span | None = None


Result: TypeAlias = Value | Failure


class Type(StrEnum):
    """The types of the language. ANY is a parameter that takes all of them, or an attribute of which nothing is known."""

    STRING = "String"
    INTEGER = "Integer"
    BOOLEAN = "Boolean"
    ANY = "Any"


ZERO: Final[dict[Type, Value]] = {Type.STRING: "", Type.INTEGER: 0, Type.BOOLEAN: False, Type.ANY: False}
"""The value that an expression of the type has where it failed."""


def type_of(value: Value) -> Type:
    if isinstance(value, str):
        return Type.STRING
    return Type.BOOLEAN if isinstance(value, bool) else Type.INTEGER


def cast(value: Value, target: Type) -> Result:
    """The value in another type. An implicit cast that fails makes what needed it fail."""
    if target is Type.STRING:
        return to_string(value)
    if target is Type.INTEGER:
        return to_integer(value)
    if target is Type.BOOLEAN:
        return to_boolean(value)
    return value


def to_string(value: Value) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def to_integer(value: Value) -> int | Failure:
    """The value as an integer of 32 bits; one that is too large fails, and has the nearest as its value."""
    if not isinstance(value, str):
        return int(value)
    found = _INTEGER.fullmatch(value)
    if found is None:
        return Failure(ErrorKind.CAST, f"{quoted(value)} is no integer", 0)
    # Python refuses to read very long numbers.
    number = int(found[1] + found[2][:11])
    if _INT_MIN <= number <= _INT_MAX:
        return number
    return Failure(ErrorKind.CAST, f"{quoted(value)} has more than 32 bits", _INT_MAX if number > 0 else _INT_MIN)


def to_boolean(value: Value) -> bool | Failure:
    if not isinstance(value, str):
        return value != 0
    lower = value.lower()
    if lower == "true":
        return True
    if lower == "false":
        return False
    return Failure(ErrorKind.CAST, f"{quoted(value)} is neither true nor false", value=False)


def wrapped(number: int) -> int:
    """The number cut to 32 bits, as the arithmetic of the language does it."""
    return (number - _INT_MIN) % 2**32 + _INT_MIN


def quoted(value: Value) -> str:
    """A value as it may stand in a message: cut, strings in quotes."""
    if not isinstance(value, str):
        return to_string(value)
    return repr(value if len(value) <= _LONGEST_QUOTE else f"{value[:_LONGEST_QUOTE]}...")
