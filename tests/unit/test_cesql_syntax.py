"""CESQL expressions are read as the grammar says, and every fault is told with its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventing.cesql import compile_cesql, compile_expression
from eventing.cesql.lexer import MAX_LENGTH
from eventing.cesql.parser import LEVELS, MAX_DEPTH, parse
from eventing.cesql.syntax import (
    Attribute,
    Binary,
    Call,
    Exists,
    In,
    Like,
    Literal,
    Logic,
    Node,
    Span,
    Unary,
    walk,
)
from eventing.errors import InvalidFilter

HERE = Span(0, 0)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a AND b OR c", "a AND (b OR c)"),
        ("a OR b AND c XOR d AND e", "a OR (b AND (c XOR (d AND e)))"),
        ("a AND b AND c OR d", "a AND b AND (c OR d)"),
        ("a AND (b AND c)", "a AND (b AND c)"),
        ("a = b = c", "(a = b) = c"),
        ("a - b - c", "(a - b) - c"),
        ("a / b * c", "(a / b) * c"),
        ("a + b * c = d", "(a + (b * c)) = d"),
        ("a < b + c AND d", "(a < (b + c)) AND d"),
        ("NOT a = b", "(NOT a) = b"),
        ("NOT a LIKE 'x'", "(NOT a) LIKE 'x'"),
        ("NOT a IN (b)", "(NOT a) IN (b)"),
        ("NOT EXISTS a", "NOT (EXISTS a)"),
        ("EXISTS a LIKE 'x'", "(EXISTS a) LIKE 'x'"),
        ("a = b LIKE 'x'", "a = (b LIKE 'x')"),
        ("a * b IN (c)", "a * (b IN (c))"),
        ("a IN (b) LIKE 'x'", "(a IN (b)) LIKE 'x'"),
        ("-a * b", "(-a) * b"),
        ("- -a", "-(-a)"),
        ("a <> b", "a != b"),
        ("A=B aNd not C", "a = b AND NOT c"),
        ("left(a, 1)='x'", "LEFT(a, 1) = 'x'"),
        ("\ta\r\n=\n'x' ", "a = 'x'"),
        ("((a))", "a"),
        ("TRUE AND(FALSE)", "true and false"),
        ("'x' = \"x\"", "'x' = 'x'"),
    ],
)
def test_what_binds_tighter(text: str, same: str) -> None:
    assert parse(text) == parse(same)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'a'", "a"),
        (r"'a\'b'", "a'b"),
        (r"'a\"b'", r"a\"b"),
        (r'"a\"b"', 'a"b'),
        (r"'a\\'", r"a\\"),
        (r"'\n'", r"\n"),
        ("'a\nb'", "a\nb"),
        ("''", ""),
        ("'é☃'", "é☃"),
        ("007", 7),
        ("+5", 5),
        ("-2147483648", -(2**31)),
        ("2147483647", 2**31 - 1),
        ("true", True),
        ("0", 0),
    ],
)
def test_literals(text: str, value: object) -> None:
    node = parse(text)
    assert node == Literal(value, HERE)  # type: ignore[arg-type]  # all of them are values
    assert node != Literal(not value, HERE)


def test_true_is_not_one() -> None:
    assert parse("1") != parse("TRUE")
    assert hash(parse("1")) != hash(parse("TRUE"))


FAULTS = {
    "": "found the end, expected an attribute, a value, a function, NOT, EXISTS or ( (position 1)",
    "type = ": "found the end after =, expected an attribute, a value, a function, NOT, EXISTS or ( (position 8)",
    "type == 'a'": "NOT, EXISTS or (; equal is written = (position 7)",
    "type = 'a' #": "the character # has no meaning here (position 12)",
    "a && b": "the character & has no meaning here: write AND (position 3)",
    "a ! b": "the character ! has no meaning here: write != or NOT (position 3)",
    "é = 1": "the character U+00E9 has no meaning here (position 1)",
    "a = \x00": "the character U+0000 has no meaning here (position 5)",
    "_a = 1": "the character _ has no meaning here (position 1)",
    "type = 'a": "the string that begins with ' here has no end (position 8)",
    "type = 'a\\'": "the string that begins with ' here has no end (position 8)",
    "type = 'it''s'": r"a quote inside a string is written \' (position 12)",
    "1 2": "found 2 after 1, expected an operator or the end (position 3)",
    "n-1": "expected an operator or the end; a sign right before a digit belongs to the number: write - 1 (position 2)",
    "1+2": "a sign right before a digit belongs to the number: write + 2 (position 2)",
    "n -1a": "write - 1 (position 3)",
    "a AND": "found the end after AND, expected an attribute",
    "a\nAND\n  b c": "found c after b, expected an operator or the end (line 3, position 5)",
    "+ 5": "found +, expected an attribute, a value, a function, NOT, EXISTS or ( (position 1)",
    "(a = 1": "found the end after 1, expected an operator or ) (position 7)",
    "a = 1)": "found ) after 1, expected an operator or the end (position 6)",
    "a NOT b": "found b after NOT, expected LIKE or IN (position 7)",
    "a LIKE 5": "found 5 after LIKE, expected a pattern in quotes (position 8)",
    "a LIKE b": "found b after LIKE, expected a pattern in quotes (position 8)",
    "1 IN ()": "found ) after (, expected at least one value (position 7)",
    "a IN b": "found b after IN, expected ( and a list of values (position 6)",
    "a IN (b": "found the end after b, expected , or ) (position 8)",
    "EXISTS": "found the end after EXISTS, expected the name of an attribute (position 7)",
    "EXISTS 'a'": "found 'a' after EXISTS, expected the name of an attribute (position 8)",
    "EXISTS a_b": "a_b is no name of an attribute: it has letters and digits only (position 8)",
    "a_b = 1": "a_b is no name of an attribute: it has letters and digits only (position 1)",
    "A1(x)": "A1 is no name of a function: it has letters and _ only (position 1)",
    "ABC(": "found the end after (, expected an attribute",
    "LEFT(a,)": "found ) after ,, expected an attribute",
    "LEFT(a b)": "found b after a, expected , or ) (position 8)",
    "2147483648 = a": "2147483648 is no integer of 32 bits: use -2147483648 to 2147483647 (position 1)",
    "9" * 5000: "is no integer of 32 bits",
    "(" * 1000 + "a" + ")" * 1000: f"nested more than {MAX_DEPTH} deep here (position {MAX_DEPTH + 1})",
    "LENGTH(" * 1000 + "a" + ")" * 1000: f"nested more than {MAX_DEPTH} deep here",
    "NOT " * 1000 + "a": f"nested more than {MAX_DEPTH} deep here",
    "1" + " + 1" * 1000: f"nested more than {MAX_DEPTH} deep here",
    "a" + " AND a OR a" * 1000: f"nested more than {MAX_DEPTH} deep here",
    "a" + " LIKE 'x'" * 1000: f"nested more than {MAX_DEPTH} deep here",
    "a" * (MAX_LENGTH + 1): f"has {MAX_LENGTH + 1} characters, more than {MAX_LENGTH}",
}


@pytest.mark.parametrize(("text", "detail"), FAULTS.items(), ids=[text[:20] for text in FAULTS])
def test_a_fault_is_told_with_its_place(text: str, detail: str) -> None:
    with pytest.raises(InvalidFilter) as caught:
        compile_expression(text, "spec.filters[0].cesql")
    assert caught.value.path == "spec.filters[0].cesql"
    assert detail in caught.value.detail


def test_the_line_of_the_fault_is_shown_with_a_mark() -> None:
    with pytest.raises(InvalidFilter) as caught:
        compile_expression("type = 'a' AND\n\tsubject LIKE 5\nOR x")
    assert caught.value.detail.splitlines()[1:] == ["   subject LIKE 5", "                ^"]
    with pytest.raises(InvalidFilter) as caught:
        compile_expression("a = 1 AND " * 100 + "#" + " AND a = 1" * 100)
    line, mark = caught.value.detail.splitlines()[1:]
    assert len(line) < 130
    assert line[len(mark) - 1] == "#"


def test_long_rows_are_not_deep() -> None:
    row = " OR ".join(f"type = 't{number}'" for number in range(800))
    assert compile_cesql(row).matches({"type": "t799"})
    values = ", ".join(f"'t{number}'" for number in range(1500))
    assert compile_cesql(f"type IN ({values})").matches({"type": "t1499"})


FILTER_FAULTS = {
    "LENGHT(type) = 3": "there is no function LENGHT: did you mean LENGTH? (position 1)",
    "a = 'x' AND NOT foo(1)": "there is no function FOO: known are ABS, BOOL, ",
    "type = CONCAT_WS()": "CONCAT_WS does not take 0 arguments (position 8)",
    "LEFT(type) = 'a'": "LEFT does not take 1 arguments (position 1)",
    "subject": "the result is a String, and a filter must be a Boolean: compare it with something (position 1)",
    "(1 + 2)": "the result is an Integer",
    "-5": "the result is an Integer",
    "UPPER(type)": "the result is a String",
    "INT(n)": "the result is an Integer",
}


@pytest.mark.parametrize(("text", "detail"), FILTER_FAULTS.items())
def test_what_can_be_no_filter_is_refused(text: str, detail: str) -> None:
    compile_expression(text)
    with pytest.raises(InvalidFilter) as caught:
        compile_cesql(text, "path")
    assert detail in caught.value.detail
    assert caught.value.path == "path"


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("a = 1 AND b = 1 OR c = 1", "AND and OR are mixed without parentheses (position 11) and read from the right"),
        ("a = 1 AND (b = 1 OR c = 1)", None),
        ("(a = 1 AND b = 1) OR c = 1", None),
        ("TRUE AND (TRUE OR FALSE) XOR TRUE", "AND and XOR are mixed"),
        ("a = 1 AND b = 1 AND c = 1", None),
        ("NOT type = 'a'", "NOT type (position 1) is taken by itself; to negate all of it: NOT (type ...)"),
        ("NOT subject LIKE 'a%'", "NOT subject (position 1) is taken by itself"),
        ("NOT (type = 'a') AND NOT flag", None),
    ],
)
def test_what_is_often_not_meant_is_warned_about(text: str, warning: str | None) -> None:
    found = compile_cesql(text).warnings
    assert [warning in each for each in found] == [True] if warning else not found


def test_filters_that_were_written_alike_are_equal() -> None:
    assert compile_cesql("type = 'a'") == compile_cesql("type = 'a'")
    assert hash(compile_cesql("type = 'a'")) == hash(compile_cesql("type = 'a'"))
    assert compile_cesql("type = 'a'") != compile_cesql("type  = 'a'")
    assert repr(compile_cesql("type = 'a'")) == "CesqlFilter(expression=Expression(text=\"type = 'a'\"))"


def test_every_node_knows_its_place() -> None:
    text = "NOT (a + 1 = LEFT( b, 2)) AND c NOT IN ('x' , d) OR EXISTS e AND f NOT LIKE '%'"
    shown = [text[node.span.start : node.span.end] for node in walk(parse(text))]
    assert shown == [
        text,
        "NOT (a + 1 = LEFT( b, 2))",
        "(a + 1 = LEFT( b, 2))",
        "a + 1",
        "a",
        "1",
        "LEFT( b, 2)",
        "b",
        "2",
        "c NOT IN ('x' , d) OR EXISTS e AND f NOT LIKE '%'",
        "c NOT IN ('x' , d)",
        "c",
        "'x'",
        "d",
        "EXISTS e AND f NOT LIKE '%'",
        "EXISTS e",
        "f NOT LIKE '%'",
        "f",
    ]


NAMES = st.from_regex(r"x[a-z0-9]{0,5}", fullmatch=True)
# What a string literal can say: a backslash stands for itself, so it may not come right before a quote.
TEXTS = st.text(max_size=6).filter(lambda text: "\\" not in text)
LITERALS = st.one_of(st.booleans(), st.integers(-(2**31), 2**31 - 1), TEXTS).map(lambda value: Literal(value, HERE))
LEAVES: st.SearchStrategy[Node] = st.one_of(
    LITERALS, NAMES.map(lambda name: Attribute(name, HERE)), NAMES.map(lambda name: Exists(name, HERE))
)


def _nodes(below: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    rows = st.lists(below, min_size=1, max_size=3).map(tuple)
    operators = st.sampled_from([each for each in LEVELS if each != "<>"])
    return st.one_of(
        st.builds(Unary, st.sampled_from(["NOT", "-"]), below, st.just(HERE)),
        st.builds(Binary, operators, below, below, st.just(HERE)),
        st.builds(Logic, st.sampled_from(["AND", "OR", "XOR"]), st.tuples(below, below), st.just(HERE)),
        st.builds(Like, below, TEXTS, st.booleans(), st.just(HERE)),
        st.builds(In, below, rows, st.booleans(), st.just(HERE)),
        st.builds(Call, st.sampled_from(["CONCAT", "LEFT", "FOO_BAR"]), rows, st.just(HERE)),
    )


NODES = st.recursive(LEAVES, _nodes, max_leaves=12)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "\\'") + "'"


def _literal(node: Literal) -> str:
    if isinstance(node.value, str):
        return _quoted(node.value)
    return str(node.value).upper()


def _printed(node: Node) -> str:
    """The node as text, in all the parentheses that there may be."""
    match node:
        case Literal():
            return _literal(node)
        case Attribute(name=name):
            return name
        case Exists(name=name):
            return f"(EXISTS {name})"
        case Unary(operator=operator, operand=operand):
            return f"({operator} {_printed(operand)})"
        case Binary(operator=operator, left=left, right=right):
            return f"({_printed(left)} {operator} {_printed(right)})"
        case Logic(operator=operator, operands=operands):
            return f"({f' {operator} '.join(map(_printed, operands))})"
        case Like(operand=operand, pattern=pattern, negated=negated):
            return f"({_printed(operand)} {'NOT ' if negated else ''}LIKE {_quoted(pattern)})"
        case In(operand=operand, elements=elements, negated=negated):
            listed = ", ".join(map(_printed, elements))
            return f"({_printed(operand)} {'NOT ' if negated else ''}IN ({listed}))"
        case Call(name=name, arguments=arguments):
            return f"{name}({', '.join(map(_printed, arguments))})"


@given(NODES)
def test_what_was_printed_is_read_again(node: Node) -> None:
    assert parse(_printed(node)) == node


FRAGMENTS = st.sampled_from(
    [*"a1-(), =<>%_é'\"\\\n\x00", "type", "'x'", "-1", " AND ", " or ", " NOT ", " IN (", " LIKE ", "EXISTS ", "LEFT("]
)


@given(st.lists(FRAGMENTS, max_size=30).map("".join) | st.text(max_size=40))
def test_any_text_is_compiled_or_refused(text: str) -> None:
    try:
        compiled = compile_cesql(text, "path")
    except InvalidFilter as error:
        assert error.path == "path"  # noqa: PT017 - either end is right
    else:
        assert isinstance(compiled.matches({"type": "x"}), bool)
