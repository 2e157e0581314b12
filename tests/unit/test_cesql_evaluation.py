"""What CESQL expressions come to, beyond what the compatibility kit asks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventing.cesql import ErrorKind, compile_cesql, compile_expression
from eventing.cesql.functions import MAX_TEXT
from eventing.cesql.like import matcher

if TYPE_CHECKING:
    from eventing.cesql.syntax import Value

EVENT: dict[str, Value] = {
    "specversion": "1.0",
    "id": "1",
    "source": "/s",
    "type": "order.created",
    "n": "5",
    "flag": "True",
    "word": "grün☃",
    "min": "-2147483648",
    "int": 7,
    "bool": True,
    "long": "x" * 1000,
}
MISSING, CAST, MATH = ErrorKind.MISSING_ATTRIBUTE, ErrorKind.CAST, ErrorKind.MATH
FUNCTION, UNKNOWN = ErrorKind.FUNCTION_EVALUATION, ErrorKind.MISSING_FUNCTION

RESULTS: list[tuple[str, Any, ErrorKind | None]] = [
    # Integers of 32 bits, that wrap.
    ("2147483647 + 1", -(2**31), None),
    ("min - 1", 2**31 - 1, None),
    ("65536 * 65536", 0, None),
    ("-min", -(2**31), None),
    ("min / -1", -(2**31), None),
    ("min % -1", 0, None),
    ("-7 / 2", -3, None),
    ("-7 % 2", -1, None),
    ("7 % -2", 1, None),
    ("5 + +5", 10, None),
    ("- -5", 5, None),
    ("7 / 0", 0, MATH),
    ("(7 / 0) < 1", False, MATH),
    ("type + 1", 0, CAST),
    ("type < 1", False, CAST),
    ("1 > type", False, CAST),
    ("-type", 0, CAST),
    ("INT('99999999999')", 2**31 - 1, CAST),
    ("INT('-99999999999')", -(2**31), CAST),
    ("INT(CONCAT(long, '1'))", 0, CAST),
    ("INT('000000000000000000000012')", 12, None),
    ("INT('+5')", 5, None),
    ("INT('')", 0, CAST),
    ("INT('+')", 0, CAST),
    ("INT(' 5')", 0, CAST),
    ("INT('1_0')", 0, CAST),
    ("INT('٣')", 0, CAST),
    ("ABS(min)", 2**31 - 1, MATH),
    ("ABS(min) + 1", 0, MATH),
    # The right operand decides what is compared, the left one is cast to it.
    ("n = 5", True, None),
    ("n = '5'", True, None),
    ("5 = n", True, None),
    ("'05' = 5", True, None),
    ("5 = '05'", False, None),
    ("flag = TRUE", True, None),
    ("TRUE = flag", False, None),
    ("int = '7'", True, None),
    ("int = 7", True, None),
    ("bool = TRUE", True, None),
    ("bool = 1", True, None),
    ("1 = bool", True, None),
    ("type = 5", False, CAST),
    ("type != 5", False, CAST),
    ("type != 'x'", True, None),
    ("type = missing", False, MISSING),
    ("'a' < 'b'", False, CAST),
    # Booleans.
    ("flag AND n", False, CAST),
    ("1 AND TRUE", True, None),
    ("0 OR 'true'", True, None),
    ("FALSE AND missing", False, None),
    ("missing AND FALSE", False, MISSING),
    ("TRUE OR missing", True, None),
    ("missing OR TRUE", False, MISSING),
    ("FALSE AND FALSE OR TRUE", False, None),
    ("TRUE XOR TRUE XOR TRUE", True, None),
    ("FALSE XOR missing", False, MISSING),
    ("TRUE XOR 'x'", False, CAST),
    ("NOT 'x'", False, CAST),
    ("NOT NOT 'true'", True, None),
    # IN, LIKE, EXISTS.
    ("n IN (4, 5)", True, None),
    ("n IN ('05')", False, None),
    ("int IN ('07')", True, None),
    ("int IN ('x', '7')", False, CAST),
    ("int IN ('7', 'x')", True, None),
    ("int NOT IN (1, missing)", False, MISSING),
    ("int NOT IN (1, 2)", True, None),
    ("missing NOT IN (1)", False, MISSING),
    ("flag IN (TRUE)", False, None),
    ("bool IN ('x')", False, CAST),
    ("n IN (int, n)", True, None),
    ("missing NOT LIKE '%'", False, MISSING),
    ("int LIKE '_'", True, None),
    ("word LIKE 'gr_n_'", True, None),
    ("EXISTS missing", False, None),
    ("EXISTS N", True, None),
    ("(EXISTS id) = TRUE", True, None),
    # Functions count characters.
    ("LENGTH(word)", 5, None),
    ("LEFT(word, 3)", "grü", None),
    ("RIGHT(word, 2)", "n☃", None),
    ("SUBSTRING(word, 3, 1)", "ü", None),
    ("SUBSTRING(word, -1)", "☃", None),
    ("SUBSTRING(word, 2147483647, 2147483647)", "", FUNCTION),
    ("SUBSTRING(word, min)", "", FUNCTION),
    ("SUBSTRING(word, 1, 2147483647)", "grün☃", None),
    ("SUBSTRING(word, 1, -1)", "", FUNCTION),
    ("SUBSTRING('', 1)", "", FUNCTION),
    ("RIGHT(word, 0)", "", None),
    ("UPPER('straße')", "STRASSE", None),
    ("TRIM('\u3000 a\x1f\u2003')", "a\x1f", None),
    ("TRIM('\x85')", "", None),
    ("CONCAT(n, 1, TRUE, int)", "51true7", None),
    ("CONCAT_WS('', 'a', '')", "a", None),
    ("LEFT(word, 'x')", "", CAST),
    ("LEFT(missing, 1)", "", MISSING),
    ("LENGTH(missing)", 0, MISSING),
    ("IS_INT('x')", False, None),
    ("IS_INT(n)", True, None),
    ("IS_INT('99999999999')", False, None),
    ("IS_BOOL(n)", False, None),
    ("IS_BOOL(int)", True, None),
    ("IS_INT(missing)", False, MISSING),
    ("STRING(INT('007'))", "7", None),
    ("BOOL(n)", False, CAST),
    ("FOO(missing)", False, UNKNOWN),
    ("LEFT(LEFT(word, -1), 1)", "", FUNCTION),
    ("(missing)", False, MISSING),
    ("(LEFT('abc', -2))", "abc", FUNCTION),
]


@pytest.mark.parametrize(("text", "value", "error"), RESULTS, ids=[text[:40] for text, _, _ in RESULTS])
def test_result(text: str, value: Value, error: ErrorKind | None) -> None:
    found, failure = compile_expression(text).evaluate(EVENT)
    assert (type(found), found) == (type(value), value)
    assert (failure.kind if failure else None) == error


def test_an_error_says_what_failed_and_where() -> None:
    text = "n = '5' AND (INT(type) > 5 OR TRUE)"
    _, error = compile_expression(text).evaluate(EVENT)
    assert error is not None
    assert error.detail == "'order.created' is no integer"
    assert error.span is not None
    assert text[error.span.start : error.span.end] == "INT(type)"
    _, error = compile_expression("NOT missing = 1").evaluate(EVENT)
    assert error is not None
    assert error.detail == "the event has no attribute missing"


def test_a_text_does_not_grow_without_bound() -> None:
    long = {"long": "x" * (MAX_TEXT // 10)}
    assert compile_expression(f"LENGTH(CONCAT({', '.join(['long'] * 10)}))").evaluate(long).value == MAX_TEXT
    for text in (f"CONCAT({', '.join(['long'] * 11)})", f"CONCAT_WS(long, {', '.join(['n'] * 11)})"):
        error = compile_expression(text).evaluate(long | {"n": ""}).error
        assert error is not None
        assert error.kind is FUNCTION


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("type = 'order.created'", True),
        ("type LIKE 'order.%' AND INT(n) > 4", True),
        ("missing = 'x'", False),
        ("missing != 'x'", False),
        ("NOT EXISTS missing OR missing = 'x'", True),
        ("EXISTS missing AND missing = 'x'", False),
        ("n / 0 = 1 OR TRUE", False),
        ("BOOL(flag)", True),
        ("NOT flag", False),
        ("TRUE", True),
        ("FALSE", False),
    ],
)
def test_a_filter_matches_where_the_result_is_true_without_an_error(text: str, matches: bool) -> None:
    attributes = {name: value for name, value in EVENT.items() if isinstance(value, str)}
    assert compile_cesql(text).matches(attributes) is matches


PATTERNS = [
    ("%", "", True),
    ("%%", "x", True),
    ("", "", True),
    ("", "x", False),
    ("_", "", False),
    ("_", "\n", True),
    ("a%", "a\nb", True),
    ("%a%", "%a", True),
    ("%c", "%abc", True),
    ("a%a", "a", False),
    ("ab%ba", "aba", False),
    ("ab%ba", "abba", True),
    ("%ab%ab%", "ab", False),
    ("%a_c%", "aabc", True),
    ("%_", "", False),
    ("_%_", "a", False),
    (r"a\_b", r"a\xb", False),
    (r"\\%", r"\%", True),
    (r"\\%", r"\x", False),
    ("\\", "\\", True),
    (r"a\b", r"a\b", True),
    ("[a]+.$", "[a]+.$", True),
    ("A", "a", False),
]


@pytest.mark.parametrize(("pattern", "text", "matches"), PATTERNS)
def test_like(pattern: str, text: str, matches: bool) -> None:
    assert matcher(pattern)(text) is matches


def _as_regex(pattern: str) -> str:
    pieces = re.findall(r"\\[%_]|.", pattern, re.DOTALL)
    return "".join({"%": ".*", "_": "."}.get(piece) or re.escape(piece[-1]) for piece in pieces)


@given(st.text("ab%_\\", max_size=8), st.text("ab%_\\", max_size=10))
def test_like_is_what_a_regular_expression_says(pattern: str, text: str) -> None:
    assert matcher(pattern)(text) is (re.fullmatch(_as_regex(pattern), text, re.DOTALL) is not None)


@pytest.mark.parametrize(
    "pattern", ["%a" * 2000 + "b", ("%" + "a" * 50) * 80 + "b%", ("%_" * 2000) + "b%", "%" + "a" * 4000 + "_b%"]
)
def test_no_pattern_takes_forever(pattern: str) -> None:
    # Each of these takes hours or for ever where a matcher goes back.
    assert not matcher(pattern)("a" * 60_000)
