"""An explanation tells the decision of the filter itself, part by part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventing.cesql import compile_cesql
from eventing.explain import Explanation, explain
from eventing.filters import EVERYTHING, All, AttributesFilter, Exact, Filter, Not, Prefix, Suffix, parse_filter
from eventing.filters import Any as AnyOf

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EVENT = {"type": "order.created", "source": "/shop", "n": "5"}


def _lines(part: Explanation, depth: int = 0) -> Iterator[str]:
    compared = ", ".join(f"{name}={value}" for name, value in part.compared)
    error = f" [{part.error}]" if part.error else ""
    yield f"{' ' * depth}{'+' if part.matched else '-'} {part.term} ({compared}){error}"
    for each in part.parts:
        yield from _lines(each, depth + 1)


@pytest.mark.parametrize(
    ("spec", "lines"),
    [
        ({}, ["+ every event ()"]),
        ({"filter": {"attributes": {"n": "5"}}}, ["+ n is '5' (n=5)"]),
        (
            {"filter": {"attributes": {"n": "", "subject": "", "type": "x"}}},
            [
                "- all of ()",
                " + n is there and not empty (n=5)",
                " - subject is there and not empty (subject=None)",
                " - type is 'x' (type=order.created)",
            ],
        ),
        ({"filters": [{"exact": {"subject": "x"}}]}, ["- subject is 'x' (subject=None)"]),
        (
            {"filters": [{"prefix": {"type": "order."}}, {"not": {"suffix": {"type": "created"}}}]},
            [
                "- all of ()",
                " + type begins with 'order.' (type=order.created)",
                " - not ()",
                "  + type ends with 'created' (type=order.created)",
            ],
        ),
        (
            {"filters": [{"any": [{"exact": {"n": "6"}}, {"cesql": "n = 5"}]}]},
            ["+ any of ()", " - n is '6' (n=5)", " + n = 5 (n=5)"],
        ),
        (
            {"filters": [{"cesql": "type = 'a' AND (INT(source) < n OR NOT (EXISTS subject)) AND TRUE XOR NOT 'x'"}]},
            [
                "- all of ()",
                " - type = 'a' (type=order.created)",
                " - any of () ['/shop' is no integer]",
                "  - INT(source) < n (n=5, source=/shop) ['/shop' is no integer]",
                "  + not ()",
                "   - (EXISTS subject) (subject=None)",
                " - an odd number of () ['x' is neither true nor false]",
                "  + TRUE ()",
                "  - NOT 'x' () ['x' is neither true nor false]",
            ],
        ),
        (
            {"filters": [{"cesql": "EXISTS n AND subject = 'x'"}]},
            [
                "- all of () [the event has no attribute subject]",
                " + EXISTS n (n=5)",
                " - subject = 'x' (subject=None) [the event has no attribute subject]",
            ],
        ),
    ],
)
def test_the_parts_of_a_filter_are_explained(spec: dict[str, Any], lines: list[str]) -> None:
    assert list(_lines(explain(parse_filter(spec), EVENT))) == lines


NAMES = st.sampled_from(["type", "source", "ext"])
VALUES = st.sampled_from(["a", "b", "ab", "5", "true"])
TERMS = st.dictionaries(NAMES, VALUES, min_size=1, max_size=3).map(lambda terms: tuple(terms.items()))
LEGACY = st.dictionaries(NAMES, VALUES | st.just(""), min_size=1, max_size=3).map(lambda terms: tuple(terms.items()))
EXPRESSIONS = st.recursive(
    st.tuples(
        st.sampled_from(["{} = '{}'", "{} LIKE '{}%'", "{} IN (5, '{}')", "EXISTS {}", "{} < 5"]), NAMES, VALUES
    ).map(lambda parts: parts[0].format(*parts[1:])),
    lambda below: st.tuples(st.sampled_from(["{} AND {}", "({} OR {})", "{} XOR {}", "NOT ({})"]), below, below).map(
        lambda parts: parts[0].format(*parts[1:])
    ),
    max_leaves=6,
)
LEAVES: st.SearchStrategy[Filter] = st.one_of(
    TERMS.map(Exact),
    TERMS.map(Prefix),
    TERMS.map(Suffix),
    LEGACY.map(AttributesFilter),
    st.just(EVERYTHING),
    EXPRESSIONS.map(compile_cesql),
)


def _nested(children: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    lists = st.lists(children, max_size=3).map(tuple)
    return st.one_of(lists.map(All), lists.map(AnyOf), children.map(Not))


@given(st.recursive(LEAVES, _nested, max_leaves=6), st.dictionaries(NAMES, VALUES | st.just("")))
def test_an_explanation_says_what_the_filter_decides(each: Filter, event: Mapping[str, str]) -> None:
    assert explain(each, event).matched is each.matches(event)


def test_a_filter_of_another_kind_is_asked() -> None:
    class Odd:
        def matches(self, attributes: Mapping[str, str]) -> bool:
            return len(attributes) % 2 == 1

        def __repr__(self) -> str:
            return "odd"

    assert explain(Odd(), EVENT) == Explanation("odd", matched=True)
