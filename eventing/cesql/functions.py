"""The functions of CESQL: the built-in ones of CloudEvents SQL 1.0 (section 3.5), and those for casts that engines share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from eventing.cesql.values import ErrorKind, Failure, Result, Type, to_boolean, to_integer, to_string

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventing.cesql.syntax import Value

MAX_TEXT: Final = 1_000_000
"""Characters that the concatenations make at most: an expression is short, but may name a long attribute often."""

# The property White_Space of Unicode. What `str.strip` takes by itself has control characters in it.
_WHITE_SPACE: Final = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_INT_MIN: Final = -(2**31)


class Function(NamedTuple):
    """`run` takes as many values as there are `parameters`, of these types; `more` that any number of them may follow."""

    parameters: tuple[Type, ...]
    result: Type
    run: Callable[..., Result]
    more: Type | None = None

    def takes(self, count: int) -> bool:
        return count == len(self.parameters) or (self.more is not None and count > len(self.parameters))

    def type_at(self, index: int) -> Type:
        return self.parameters[index] if index < len(self.parameters) else self.more or Type.ANY


def find(name: str, count: int) -> Function | None:
    """The function of this name (in upper case) for so many arguments."""
    return next((each for each in BUILT_IN.get(name, ()) if each.takes(count)), None)


def _length(text: str) -> Result:
    return len(text)


def _concat(*texts: str) -> Result:
    return _concat_ws("", *texts)


def _concat_ws(delimiter: str, *texts: str) -> Result:
    if sum(map(len, texts)) + len(delimiter) * len(texts) > MAX_TEXT:
        return _refused("", f"the result has more than {MAX_TEXT} characters")
    return delimiter.join(texts)


def _lower(text: str) -> Result:
    return text.lower()


def _upper(text: str) -> Result:
    return text.upper()


def _trim(text: str) -> Result:
    return text.strip(_WHITE_SPACE)


def _left(text: str, count: int) -> Result:
    return _refused(text, f"{count} is below 0") if count < 0 else text[:count]


def _right(text: str, count: int) -> Result:
    return _refused(text, f"{count} is below 0") if count < 0 else text[max(0, len(text) - count) :]


def _substring(text: str, position: int, length: int | None = None) -> Result:
    if length is not None and length < 0:
        return _refused("", f"the length {length} is below 0")
    if position == 0:
        return ""
    if abs(position) > len(text):
        return _refused("", f"position {position} is outside of a text with {len(text)} characters")
    start = position - 1 if position > 0 else len(text) + position
    return text[start:] if length is None else text[start : start + length]


def _abs(number: int) -> Result:
    if number == _INT_MIN:
        return Failure(ErrorKind.MATH, f"{number} has no absolute value of 32 bits", -(_INT_MIN + 1))
    return abs(number)


def _is_int(value: Value) -> Result:
    return not isinstance(to_integer(value), Failure)


def _is_bool(value: Value) -> Result:
    return not isinstance(to_boolean(value), Failure)


def _refused(value: Value, detail: str) -> Failure:
    return Failure(ErrorKind.FUNCTION_EVALUATION, detail, value)


_ANY: Final = (Type.ANY,)
_STRING: Final = (Type.STRING,)

BUILT_IN: Final[dict[str, tuple[Function, ...]]] = {
    "ABS": (Function((Type.INTEGER,), Type.INTEGER, _abs),),
    "BOOL": (Function(_ANY, Type.BOOLEAN, to_boolean),),
    "CONCAT": (Function((), Type.STRING, _concat, more=Type.STRING),),
    "CONCAT_WS": (Function(_STRING, Type.STRING, _concat_ws, more=Type.STRING),),
    "INT": (Function(_ANY, Type.INTEGER, to_integer),),
    "IS_BOOL": (Function(_ANY, Type.BOOLEAN, _is_bool),),
    "IS_INT": (Function(_ANY, Type.BOOLEAN, _is_int),),
    "LEFT": (Function((Type.STRING, Type.INTEGER), Type.STRING, _left),),
    "LENGTH": (Function(_STRING, Type.INTEGER, _length),),
    "LOWER": (Function(_STRING, Type.STRING, _lower),),
    "RIGHT": (Function((Type.STRING, Type.INTEGER), Type.STRING, _right),),
    "STRING": (Function(_ANY, Type.STRING, to_string),),
    "SUBSTRING": (
        Function((Type.STRING, Type.INTEGER), Type.STRING, _substring),
        Function((Type.STRING, Type.INTEGER, Type.INTEGER), Type.STRING, _substring),
    ),
    "TRIM": (Function(_STRING, Type.STRING, _trim),),
    "UPPER": (Function(_STRING, Type.STRING, _upper),),
}
"""By name; no two of one name take the same number of arguments."""
