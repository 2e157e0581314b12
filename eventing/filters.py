"""Trigger filters as values: the dialects of the CloudEvents Subscriptions API, and the older `filter.attributes`.

A filter that cannot be compiled is an error, never a filter that lets everything through.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from eventing.cesql import CesqlFilter, compile_cesql
from eventing.errors import InvalidFilter

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH: Final = 200
"""How deep filters may be nested: what walks them calls itself for each level, and Python stops at 1000 calls."""

_NAME: Final = re.compile(r"[a-z0-9]+")
_DIALECTS: Final = ("exact", "prefix", "suffix", "all", "any", "not", "cesql")


class Filter(Protocol):
    """Decides whether a Trigger wants an event. Two filters that were written alike are equal."""

    def matches(self, attributes: Mapping[str, str]) -> bool:
        """Whether an event with these attributes (lower-case name, text form) is wanted. Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Everything:
    """Matches every event: no filter was given."""

    def matches(self, attributes: Mapping[str, str]) -> bool:  # noqa: ARG002 - the Protocol has it
        return True


EVERYTHING: Final = Everything()


@dataclass(frozen=True, slots=True)
class AttributesFilter:
    """The older `filter.attributes`: all must be equal; "" means that the attribute must be there and not empty."""

    terms: tuple[tuple[str, str], ...]

    def matches(self, attributes: Mapping[str, str]) -> bool:
        for name, value in self.terms:
            found = attributes.get(name)
            if not found or (value and found != value):
                return False
        return True


@dataclass(frozen=True, slots=True)
class Exact:
    """All attributes must be there and equal, case-sensitive."""

    terms: tuple[tuple[str, str], ...]

    def matches(self, attributes: Mapping[str, str]) -> bool:
        return all(attributes.get(name) == value for name, value in self.terms)


@dataclass(frozen=True, slots=True)
class Prefix:
    """All attributes must be there and begin so."""

    terms: tuple[tuple[str, str], ...]

    def matches(self, attributes: Mapping[str, str]) -> bool:
        return all(name in attributes and attributes[name].startswith(value) for name, value in self.terms)


@dataclass(frozen=True, slots=True)
class Suffix:
    """All attributes must be there and end so."""

    terms: tuple[tuple[str, str], ...]

    def matches(self, attributes: Mapping[str, str]) -> bool:
        return all(name in attributes and attributes[name].endswith(value) for name, value in self.terms)


class _Nested:
    """What holds other filters. Comparing walks with a list of its own: the generated methods would run out of stack."""

    __slots__ = ()

    def matches(self, attributes: Mapping[str, str]) -> bool:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Nested) and list(_flat(self)) == list(_flat(other))

    def __hash__(self) -> int:
        return hash(tuple(_flat(self)))

    def __repr__(self) -> str:
        return f"<{' '.join(map(str, _flat(self)))}>"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class All(_Nested):
    """Every one must match."""

    filters: tuple[Filter, ...]

    def matches(self, attributes: Mapping[str, str]) -> bool:
        # A loop, here and below: all() with a generator takes a second call for each level.
        for each in self.filters:  # noqa: SIM110 - see above
            if not each.matches(attributes):
                return False
        return True


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Any(_Nested):
    """At least one must match."""

    filters: tuple[Filter, ...]

    def matches(self, attributes: Mapping[str, str]) -> bool:
        for each in self.filters:  # noqa: SIM110 - see All
            if each.matches(attributes):
                return True
        return False


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Not(_Nested):
    """The other one must not match; so an absent attribute satisfies `not` with `exact` in it."""

    filter: Filter

    def matches(self, attributes: Mapping[str, str]) -> bool:
        return not self.filter.matches(attributes)


def parse_filter(trigger_spec: Mapping[str, object]) -> Filter:
    """The filter of a Trigger, from its `spec`: `filters` where it is not empty, else `filter`, else everything passes.

    Raises InvalidFilter with the path to the first fault, where any part cannot be compiled.
    """
    filters = trigger_spec.get("filters")
    if filters is not None and not isinstance(filters, list):
        raise InvalidFilter("spec.filters", "filters is a list")
    if filters:
        return _every(_elements(filters, "spec.filters", 1))
    legacy = trigger_spec.get("filter")
    return EVERYTHING if legacy is None else _legacy(legacy)


def warnings(root: Filter) -> tuple[str, ...]:
    """What the author of a filter should be told although it is correct."""
    return tuple([warning for each in _flat(root) if isinstance(each, CesqlFilter) for warning in each.warnings])


def _legacy(legacy: object) -> Filter:
    path = "spec.filter"
    if not isinstance(legacy, Mapping):
        raise InvalidFilter(path, "filter is an object with attributes")
    for name in legacy:
        if name != "attributes":
            raise InvalidFilter(f"{path}.{name}", "there is no such field: filter has attributes only")
    attributes = legacy.get("attributes")
    if attributes is None or attributes == {}:
        return EVERYTHING
    return AttributesFilter(_terms(attributes, f"{path}.attributes", empty_allowed=True))


def _elements(elements: list[object], path: str, depth: int) -> tuple[Filter, ...]:
    filters = []
    # A loop, as a comprehension would take a second call for each level.
    for index, element in enumerate(elements):
        filters.append(_element(element, f"{path}[{index}]", depth))
    return tuple(filters)


def _element(element: object, path: str, depth: int) -> Filter:
    if depth > MAX_DEPTH:
        raise InvalidFilter(_shortened(path), f"filters are nested more than {MAX_DEPTH} deep")
    dialect, value = _dialect(element, path)
    path = f"{path}.{dialect}"
    if dialect == "exact":
        return Exact(_terms(value, path))
    if dialect == "prefix":
        return Prefix(_terms(value, path))
    if dialect == "suffix":
        return Suffix(_terms(value, path))
    if dialect == "not":
        return Not(_element(value, path, depth + 1))
    if dialect == "cesql":
        return _expression(value, path)
    if not isinstance(value, list) or not value:
        raise InvalidFilter(path, f"{dialect} is a list of at least one filter")
    filters = _elements(value, path, depth + 1)
    return _every(filters) if dialect == "all" else Any(filters)


def _expression(value: object, path: str) -> Filter:
    if not isinstance(value, str):
        raise InvalidFilter(path, "a CESQL expression is text: put it in quotes")
    return compile_cesql(value, path)


def _dialect(element: object, path: str) -> tuple[str, object]:
    if not isinstance(element, Mapping):
        raise InvalidFilter(path, "a filter is an object with one dialect")
    given = {name: value for name, value in element.items() if value is not None}
    for name in given:
        if name not in _DIALECTS:
            raise InvalidFilter(f"{path}.{name}", f"there is no such dialect; known are {', '.join(_DIALECTS)}")
    if not given:
        raise InvalidFilter(path, f"the filter is empty: give it one of {', '.join(_DIALECTS)}")
    if len(given) > 1:
        raise InvalidFilter(path, "multiple dialects found, filters can have only one dialect set")
    return next(iter(given.items()))


def _terms(attributes: object, path: str, *, empty_allowed: bool = False) -> tuple[tuple[str, str], ...]:
    if not isinstance(attributes, Mapping) or not attributes:
        raise InvalidFilter(path, "give it at least one attribute with its value")
    for name, value in attributes.items():
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise InvalidFilter(f"{path}[{name}]", "an attribute name has only a-z and 0-9")
        if not isinstance(value, str):
            raise InvalidFilter(f"{path}.{name}", "a value to compare with is text: put it in quotes")
        if not value and not empty_allowed:
            raise InvalidFilter(f"{path}.{name}", "a value to compare with may not be empty")
    return tuple(sorted(attributes.items()))


def _every(filters: tuple[Filter, ...]) -> Filter:
    return filters[0] if len(filters) == 1 else All(filters)


def _shortened(path: str) -> str:
    return path if len(path) <= 80 else f"{path[:80]}..."


def _flat(root: Filter) -> Iterator[object]:
    """The tree in a row: kind and number of children of what is nested, everything else as it is."""
    todo = [root]
    while todo:
        each = todo.pop()
        if isinstance(each, All | Any):
            yield type(each).__name__, len(each.filters)
            todo.extend(reversed(each.filters))
        elif isinstance(each, Not):
            yield "Not", 1
            todo.append(each.filter)
        else:
            yield each
