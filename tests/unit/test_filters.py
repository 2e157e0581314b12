"""Trigger filters: what they match, and that what cannot be compiled is refused with its path."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.match import MatchIndex
from eventing.cesql import compile_cesql
from eventing.cesql.parser import MAX_DEPTH as DEEPEST_EXPRESSION
from eventing.errors import InvalidFilter
from eventing.explain import explain
from eventing.filters import EVERYTHING, MAX_DEPTH, AttributesFilter, Exact, parse_filter, warnings

EVENT = {"specversion": "1.0", "id": "1", "type": "com.example.order.created", "source": "/shop", "n": "5", "blank": ""}


def _matches(spec: dict[str, Any], event: dict[str, str] | None = None) -> bool:
    return parse_filter(spec).matches(EVENT if event is None else event)


@pytest.mark.parametrize(
    ("element", "wanted"),
    [
        pytest.param({"exact": {"type": "com.example.order.created"}}, True, id="exact"),
        pytest.param({"exact": {"type": "COM.example.order.created"}}, False, id="exact-case"),
        pytest.param({"exact": {"source": "/shop", "n": "5"}}, True, id="exact-all-of-them"),
        pytest.param({"exact": {"source": "/shop", "n": "6"}}, False, id="exact-one-differs"),
        pytest.param({"exact": {"missing": "x"}}, False, id="exact-absent"),
        pytest.param({"prefix": {"type": "com.example."}}, True, id="prefix"),
        pytest.param({"prefix": {"type": "example"}}, False, id="prefix-in-the-middle"),
        pytest.param({"prefix": {"missing": "x"}}, False, id="prefix-absent"),
        pytest.param({"suffix": {"type": ".created"}}, True, id="suffix"),
        pytest.param({"suffix": {"type": ".created", "source": "x"}}, False, id="suffix-one-differs"),
        pytest.param({"suffix": {"time": "Z"}}, False, id="suffix-absent-time"),
        pytest.param({"not": {"exact": {"missing": "x"}}}, True, id="not-absent"),
        pytest.param({"not": {"exact": {"source": "/shop"}}}, False, id="not"),
        pytest.param({"all": [{"exact": {"n": "5"}}, {"prefix": {"source": "/"}}]}, True, id="all"),
        pytest.param({"all": [{"exact": {"n": "5"}}, {"prefix": {"source": "x"}}]}, False, id="all-one-differs"),
        pytest.param({"any": [{"exact": {"n": "6"}}, {"prefix": {"source": "/"}}]}, True, id="any"),
        pytest.param({"any": [{"exact": {"n": "6"}}, {"prefix": {"source": "x"}}]}, False, id="any-none"),
        pytest.param({"cesql": "type LIKE '%.created' AND INT(n) > 4"}, True, id="cesql"),
        pytest.param({"cesql": "missing != 'x'"}, False, id="cesql-absent"),
        pytest.param({"not": {"cesql": "missing = 'x'"}}, True, id="cesql-not-absent"),
        pytest.param({"exact": {"n": "5"}, "prefix": None}, True, id="null-is-absent"),
    ],
)
def test_a_dialect_matches(element: dict[str, Any], *, wanted: bool) -> None:
    assert _matches({"filters": [element]}) is wanted


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        pytest.param({}, True, id="nothing"),
        pytest.param({"filter": None, "filters": None}, True, id="null"),
        pytest.param({"filter": {}}, True, id="empty-filter"),
        pytest.param({"filter": {"attributes": {}}}, True, id="empty-attributes"),
        pytest.param({"filters": []}, True, id="empty-filters"),
        pytest.param({"filter": {"attributes": {"source": "/shop", "n": "5"}}}, True, id="equal"),
        pytest.param({"filter": {"attributes": {"source": "/shop", "n": "6"}}}, False, id="one-differs"),
        pytest.param({"filter": {"attributes": {"source": ""}}}, True, id="wildcard"),
        pytest.param({"filter": {"attributes": {"missing": ""}}}, False, id="wildcard-absent"),
        pytest.param({"filter": {"attributes": {"blank": ""}}}, False, id="wildcard-empty"),
        pytest.param(
            {"filters": [{"exact": {"n": "5"}}], "filter": {"attributes": {"n": "6"}}}, True, id="filters-win"
        ),
        pytest.param({"filters": [], "filter": {"attributes": {"n": "6"}}}, False, id="empty-filters-do-not-win"),
        pytest.param({"filters": [{"exact": {"n": "5"}}, {"exact": {"n": "6"}}]}, False, id="filters-must-all-match"),
    ],
)
def test_a_trigger_spec_matches(spec: dict[str, Any], *, wanted: bool) -> None:
    assert _matches(spec) is wanted


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        pytest.param({"filters": {}}, "spec.filters", id="filters-no-list"),
        pytest.param({"filters": ["x"]}, "spec.filters[0]", id="element-no-object"),
        pytest.param({"filters": [{"exact": {"a": "b"}}, {}]}, "spec.filters[1]", id="empty-element"),
        pytest.param({"filters": [{"exakt": {"a": "b"}}]}, "spec.filters[0].exakt", id="unknown-dialect"),
        pytest.param({"filters": [{"exact": {"a": "b"}, "prefix": {"a": "b"}}]}, "spec.filters[0]", id="two-dialects"),
        pytest.param({"filters": [{"exact": {}}]}, "spec.filters[0].exact", id="no-terms"),
        pytest.param({"filters": [{"exact": {"a": ""}}]}, "spec.filters[0].exact.a", id="empty-value"),
        pytest.param({"filters": [{"prefix": {"a": 5}}]}, "spec.filters[0].prefix.a", id="number"),
        pytest.param({"filters": [{"suffix": {"A": "x"}}]}, "spec.filters[0].suffix[A]", id="bad-name"),
        pytest.param({"filters": [{"all": []}]}, "spec.filters[0].all", id="empty-all"),
        pytest.param({"filters": [{"any": {"exact": {"a": "b"}}}]}, "spec.filters[0].any", id="any-no-list"),
        pytest.param({"filters": [{"not": {}}]}, "spec.filters[0].not", id="empty-not"),
        pytest.param(
            {"filters": [{"any": [{"exact": {"a": "b"}}, {"not": {"all": [{"x": 1}]}}]}]},
            "spec.filters[0].any[1].not.all[0].x",
            id="deep",
        ),
        pytest.param({"filter": []}, "spec.filter", id="filter-no-object"),
        pytest.param({"filter": {"exact": {}}}, "spec.filter.exact", id="filter-unknown-field"),
        pytest.param({"filter": {"attributes": {"a": True}}}, "spec.filter.attributes.a", id="legacy-boolean"),
        pytest.param({"filter": {"attributes": ["a"]}}, "spec.filter.attributes", id="legacy-list"),
    ],
)
def test_what_cannot_be_compiled_is_refused_with_its_path(spec: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidFilter) as caught:
        parse_filter(spec)
    assert caught.value.path == path


def test_cesql_is_compiled_with_the_path_to_its_faults() -> None:
    compiled = parse_filter({"filters": [{"cesql": "type = 'a'"}]})
    assert compiled == compile_cesql("type = 'a'")
    assert compiled.matches({"type": "a"})
    with pytest.raises(InvalidFilter) as caught:
        parse_filter({"filters": [{"exact": {"a": "1"}}, {"not": {"cesql": "type = "}}]})
    assert caught.value.path == "spec.filters[1].not.cesql"
    assert "position 8" in caught.value.detail


def test_the_warnings_of_all_expressions_are_collected() -> None:
    mixed = {"cesql": "a = 1 AND b = 1 OR c = 1"}
    compiled = parse_filter({"filters": [{"exact": {"a": "1"}}, {"any": [mixed, {"not": {"cesql": "NOT a = 'x'"}}]}]})
    first, second = warnings(compiled)
    assert "AND and OR are mixed" in first
    assert "NOT a (position 1) is taken by itself" in second
    assert warnings(EVERYTHING) == ()


def test_an_expression_may_be_as_deep_as_it_can_inside_the_deepest_filter() -> None:
    text = "type = 'a'"
    for _ in range(DEEPEST_EXPRESSION - 2):
        text = f"(type = 'b' OR {text})"
    element: dict[str, Any] = {"cesql": text}
    for level in range(MAX_DEPTH - 1):
        element = {("any", "all")[level % 2]: [{"exact": {"n": "5"}}, element]}
    compiled = parse_filter({"filters": [element]})
    assert MatchIndex([("item", compiled)]).match({"type": "a", "n": "5"}) == ["item"]
    assert explain(compiled, {"type": "a", "n": "5"}).matched


def _deep(depth: int) -> dict[str, Any]:
    element: dict[str, Any] = {"exact": {"n": "5"}}
    for level in range(depth - 1):
        more = {"exact": {"type": f"t{level}"}}
        element = ({"any": [more, element]}, {"all": [element, {"not": more}]}, {"not": {"not": element}})[level % 3]
    return {"filters": [element]}


def test_deep_filters_are_compiled_compared_and_evaluated() -> None:
    # A third of the levels count twice.
    spec = _deep(MAX_DEPTH * 3 // 4)
    compiled, again = parse_filter(spec), parse_filter(spec)
    assert compiled.matches(EVENT)
    assert compiled == again
    assert hash(compiled) == hash(again)
    assert "Exact" in repr(compiled)
    assert MatchIndex([("item", compiled)]).match(EVENT) == ["item"]


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
def test_deeper_filters_are_refused(depth: int) -> None:
    element: dict[str, Any] = {"exact": {"n": "5"}}
    for _ in range(depth - 1):
        element = {"not": element}
    with pytest.raises(InvalidFilter, match=f"nested more than {MAX_DEPTH} deep"):
        parse_filter({"filters": [element]})
    # Taken apart from the outside: the interpreter itself would call itself for each level.
    while "not" in element:
        element = element.pop("not")


def test_the_same_filter_written_in_another_order_is_equal() -> None:
    one = parse_filter({"filters": [{"exact": {"a": "1", "b": "2"}}]})
    two = parse_filter({"filters": [{"all": [{"exact": {"b": "2", "a": "1"}}]}]})
    assert one == two == Exact((("a", "1"), ("b", "2")))
    assert parse_filter({}) == EVERYTHING
    assert parse_filter({"filter": {"attributes": {"a": ""}}}) == AttributesFilter((("a", ""),))
    assert parse_filter({"filters": [{"not": {"exact": {"a": "1"}}}]}) != one


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["exact", "prefix", "all", "any", "not", "cesql", "a", "attributes"]), inner, max_size=2
        )
    ),
    max_leaves=10,
)


@given(st.fixed_dictionaries({}, optional={"filter": JSON, "filters": st.lists(JSON, max_size=3) | JSON}))
def test_anything_is_compiled_or_refused(spec: dict[str, Any]) -> None:
    try:
        compiled = parse_filter(spec)
    except InvalidFilter as error:
        assert error.path.startswith("spec.filter")  # noqa: PT017 - either end is right
    else:
        assert isinstance(compiled.matches(EVENT), bool)
