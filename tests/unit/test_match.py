"""The match index finds what trying every filter finds."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.match import MatchIndex
from eventing.cesql import CesqlFilter, compile_cesql
from eventing.explain import explain
from eventing.filters import EVERYTHING, All, Any, AttributesFilter, Exact, Filter, Not, Prefix, Suffix

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME_LIST = ["type", "source", "subject", "ext"]
VALUE_LIST = ["a", "b", "ab", "ba", "5"]
NAMES = st.sampled_from(NAME_LIST)
VALUES = st.sampled_from(VALUE_LIST)
TERMS = st.dictionaries(NAMES, VALUES, min_size=1, max_size=3).map(lambda terms: tuple(terms.items()))
LEGACY = st.dictionaries(NAMES, VALUES | st.just(""), min_size=1, max_size=3).map(lambda terms: tuple(terms.items()))
COMPARISONS = (
    "{name} = '{one}'",
    "'{one}' = {name}",
    "{name} != '{one}'",
    "{name} = {other}",
    "{name} IN ('{one}', '{two}')",
    "{name} IN ('{one}', {other})",
    "{name} NOT IN ('{one}', 5)",
    "{name} = 5",
    "5 = {name}",
    "{name} LIKE '{one}%'",
    "EXISTS {name}",
    "{name}",
    "INT({name}) = 5",
    "TRUE",
)


def _comparison(template: str, name: str, other: str, one: str, two: str) -> str:
    return template.format(name=name, other=other, one=one, two=two)


def _joined(below: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    rows = st.lists(below, min_size=2, max_size=3)
    joined = st.tuples(st.sampled_from([" AND ", " OR ", " XOR "]), rows).map(lambda row: row[0].join(row[1]))
    return joined | joined.map("({})".format) | below.map("NOT ({})".format)


EXPRESSIONS = st.recursive(
    st.builds(_comparison, st.sampled_from(COMPARISONS), NAMES, NAMES, VALUES, VALUES), _joined, max_leaves=6
)
LEAVES: st.SearchStrategy[Filter] = st.one_of(
    TERMS.map(Exact),
    TERMS.map(Prefix),
    TERMS.map(Suffix),
    LEGACY.map(AttributesFilter),
    st.just(EVERYTHING),
    EXPRESSIONS.map(lambda text: compile_cesql(f"{text} AND TRUE")),
)


def _nested(children: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    lists = st.lists(children, min_size=1, max_size=3).map(tuple)
    return st.one_of(lists.map(All), lists.map(Any), children.map(Not))


FILTERS = st.recursive(LEAVES, _nested, max_leaves=6)
EVENTS = st.dictionaries(NAMES, VALUES | st.just(""), max_size=4)


@given(st.lists(FILTERS, max_size=30), st.lists(EVENTS, min_size=1, max_size=5))
def test_the_index_finds_what_trying_every_filter_finds(filters: list[Filter], events: list[Mapping[str, str]]) -> None:
    index = MatchIndex(enumerate(filters))
    for event in events:
        wanted = [number for number, each in enumerate(filters) if each.matches(event)]
        assert sorted(index.match(event)) == wanted


@given(st.lists(TERMS.map(Exact), min_size=10, max_size=60), EVENTS)
def test_many_exact_filters_on_the_same_attributes_are_told_apart(
    filters: list[Exact], event: Mapping[str, str]
) -> None:
    index = MatchIndex(enumerate(filters))
    assert sorted(index.match(event)) == [number for number, each in enumerate(filters) if each.matches(event)]


class CountedExact(Exact):
    """An exact filter that counts how often it is tried."""

    __slots__ = ()
    tried = 0

    def matches(self, attributes: Mapping[str, str]) -> bool:
        CountedExact.tried += 1
        return super().matches(attributes)


def _type_only(number: int) -> tuple[tuple[str, str], ...]:
    return (("type", f"t{number}"),)


def _one_type_many_sources(number: int) -> tuple[tuple[str, str], ...]:
    return (("type", "t0"), ("source", f"s{number}"))


def _own_extension(number: int) -> tuple[tuple[str, str], ...]:
    return ((f"ext{number}", "x"),)


@pytest.mark.parametrize("terms", [_type_only, _one_type_many_sources, _own_extension])
@pytest.mark.parametrize("nest", [All, Any])
def test_filters_that_do_not_match_are_not_tried(terms: object, nest: type[All | Any]) -> None:
    assert callable(terms)
    # Not alone in its list, so that the index cannot know the answer from the attributes that it looked up.
    filters = [nest((CountedExact(terms(number)), Exact(terms(number)))) for number in range(2000)]
    index = MatchIndex(enumerate(filters))
    CountedExact.tried = 0
    event = {"type": "t0", "source": "s7", "ext7": "x"}
    found = index.match(event)
    assert found == [number for number, each in enumerate(filters) if Exact(terms(number)).matches(event)]
    assert CountedExact.tried <= 1


def test_any_of_several_values_is_found_by_each_of_them() -> None:
    index = MatchIndex([("item", Any((Exact((("type", "a"),)), Exact((("type", "b"), ("source", "s"))))))])
    assert index.match({"type": "a"}) == ["item"]
    assert index.match({"type": "b", "source": "s"}) == ["item"]
    assert index.match({"type": "b"}) == []


def test_an_empty_index_matches_nothing() -> None:
    empty: MatchIndex[str] = MatchIndex(())
    assert empty.match({"type": "a"}) == []


def test_a_large_list_of_choices_is_indexed() -> None:
    choices = [Exact((("type", f"t{number}"),)) for number in range(5000)]
    index = MatchIndex([("item", Any(tuple(choices)))])
    assert index.match({"type": "t4999"}) == ["item"]
    assert index.match({"type": "t5000"}) == []


def _an_expression(random: Random, depth: int) -> str:
    if depth == 0 or random.random() < 0.3:
        return _comparison(
            random.choice(COMPARISONS), *random.choices(NAME_LIST, k=2), *random.choices(VALUE_LIST, k=2)
        )
    if random.random() < 0.2:
        return f"NOT ({_an_expression(random, depth - 1)})"
    operator = random.choice([" AND ", " AND ", " OR ", " XOR "])
    row = operator.join(_an_expression(random, depth - 1) for _ in range(random.randint(2, 3)))
    return f"({row})" if random.random() < 0.5 else row


def _a_filter(random: Random, depth: int = 3) -> Filter:
    if depth and random.random() < 0.4:
        if random.random() < 0.2:
            return Not(_a_filter(random, depth - 1))
        parts = tuple(_a_filter(random, depth - 1) for _ in range(random.randint(1, 3)))
        return All(parts) if random.random() < 0.5 else Any(parts)
    if random.random() < 0.5:
        return compile_cesql(f"{_an_expression(random, 3)} AND TRUE")
    names = random.sample(NAME_LIST, random.randint(1, 2))
    terms = tuple((name, random.choice(VALUE_LIST)) for name in names)
    kinds: list[Filter] = [Exact(terms), Exact(terms), Prefix(terms), Suffix(terms), AttributesFilter(terms)]
    return random.choice(kinds)


@pytest.mark.parametrize("seed", range(50))
def test_the_index_finds_the_same_among_many_filters(seed: int) -> None:
    random = Random(seed)  # noqa: S311 - the same filters in every run
    filters = [_a_filter(random) for _ in range(200)]
    index = MatchIndex(enumerate(filters))
    for _ in range(200):
        event = {name: random.choice(VALUE_LIST) for name in NAME_LIST if random.random() < 0.7}
        assert sorted(index.match(event)) == [number for number, each in enumerate(filters) if each.matches(event)]
        # `explain` decides the same of any of them; all 10,000 filters of these runs have their turn.
        for each in random.sample(filters, 3):
            assert explain(each, event).matched == each.matches(event)


@pytest.mark.parametrize(
    "text",
    [
        "type = 't{}'",
        "'t{}' = type AND subject LIKE 'x%'",
        "subject LIKE 'x%' AND (n = 5 AND type IN ('t{}', 'other'))",
        "type = 't{0}' AND n = 5 OR type = 't{0}' AND n = 6",
        "(type = 't{0}' OR source = 's') AND source = 't{0}'",
        "{0} = type",
    ],
)
def test_expressions_that_fix_an_attribute_are_found_through_it(text: str) -> None:
    tried = []

    class Counted(CesqlFilter):
        __slots__ = ()

        def matches(self, attributes: Mapping[str, str]) -> bool:
            tried.append(self)
            return super().matches(attributes)

    compiled = [compile_cesql(text.format(number)) for number in range(500)]
    index = MatchIndex([(each, Counted(each.expression, each.warnings)) for each in compiled])
    event = {"type": "t7", "source": "t7", "subject": "xy", "n": "5"}
    wanted = [each for each in compiled if each.matches(event)]
    assert index.match(event) == wanted
    assert len(wanted) == len(tried) <= 1


def test_expressions_that_fix_nothing_are_tried() -> None:
    texts = ["type != 'a'", "type NOT IN ('a')", "type = 'a' XOR TRUE", "NOT (type = 'a')", "type = 5", "type IN (n)"]
    index = MatchIndex([(text, compile_cesql(text)) for text in texts])
    assert index.match({"type": "05", "n": "05"}) == texts
