"""The match index finds what trying every filter finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.match import MatchIndex
from eventing.filters import EVERYTHING, All, Any, AttributesFilter, Exact, Filter, Not, Prefix, Suffix

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES = st.sampled_from(["type", "source", "subject", "ext"])
VALUES = st.sampled_from(["a", "b", "ab", "ba"])
TERMS = st.dictionaries(NAMES, VALUES, min_size=1, max_size=3).map(lambda terms: tuple(terms.items()))
LEGACY = st.dictionaries(NAMES, VALUES | st.just(""), min_size=1, max_size=3).map(lambda terms: tuple(terms.items()))
LEAVES: st.SearchStrategy[Filter] = st.one_of(
    TERMS.map(Exact), TERMS.map(Prefix), TERMS.map(Suffix), LEGACY.map(AttributesFilter), st.just(EVERYTHING)
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
