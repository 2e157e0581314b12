"""Which of a Broker's Triggers want an event, at a cost that does not grow with those that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from eventing.cesql import CesqlFilter
from eventing.cesql.compiler import literal_texts
from eventing.cesql.syntax import Attribute, Binary, In, Literal, Logic
from eventing.cesql.values import to_string
from eventing.filters import All, Any, AttributesFilter, Everything, Exact

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eventing.cesql.syntax import Node
    from eventing.filters import Filter

T = TypeVar("T")

_PREFERRED: Final = ("type", "source")
_FEW: Final = 4
"""As many filters are tried faster than they are looked up."""

_DEEPEST: Final = 8
"""So many attributes are looked up one after another; what still remains is tried."""


class MatchIndex(Generic[T]):
    """An index over filters, built once for each routing table.

    A filter is found through the attributes whose values it fixes, `type` before `source` before others, and only then
    tried. One that fixes none (only prefixes, suffixes, negations) is tried for every event.
    """

    def __init__(self, filters: Iterable[tuple[T, Filter]]) -> None:
        self._root = _Node([_Entry(item, each, _fixed(each)) for item, each in filters], frozenset())

    def match(self, attributes: Mapping[str, str]) -> list[T]:
        """The items whose filter matches, each once, in no promised order."""
        found: list[T] = []
        self._root.collect(attributes, found)
        return found


class _Entry(NamedTuple, Generic[T]):
    """`fixed` are the attributes that the filter allows only these values of."""

    item: T
    filter: Filter
    fixed: Mapping[str, frozenset[str]]


class _Node(Generic[T]):
    """Entries that have the values of the attributes `used` in common."""

    def __init__(self, entries: list[_Entry[T]], used: frozenset[str]) -> None:
        self._certain: list[T] = []
        self._tried: list[tuple[T, Filter]] = []
        self._tables: dict[str, dict[str, _Node[T]]] = {}
        buckets: dict[str, dict[str, list[_Entry[T]]]] = {}
        looks_up = not used or (len(entries) > _FEW and len(used) < _DEEPEST)
        for entry in entries:
            name = _best(entry.fixed, used) if looks_up else None
            if name is not None:
                bucket = buckets.setdefault(name, {})
                for value in entry.fixed[name]:
                    bucket.setdefault(value, []).append(entry)
            elif _is_certain(entry.filter, used):
                self._certain.append(entry.item)
            else:
                self._tried.append((entry.item, entry.filter))
        for name, bucket in buckets.items():
            self._tables[name] = {value: _Node(each, used | {name}) for value, each in bucket.items()}

    def collect(self, attributes: Mapping[str, str], found: list[T]) -> None:
        found.extend(self._certain)
        for item, each in self._tried:
            if each.matches(attributes):
                found.append(item)
        tables = self._tables
        # Whichever is fewer: Triggers may name any number of attributes, and so may an event.
        for name in tables if len(tables) <= len(attributes) else attributes:
            if name in tables and name in attributes:
                node = tables[name].get(attributes[name])
                if node is not None:
                    node.collect(attributes, found)


def _best(fixed: Mapping[str, frozenset[str]], used: frozenset[str]) -> str | None:
    # Below the first attribute only single values: the combinations of several lists would fill the memory.
    names = [name for name, values in fixed.items() if name not in used and (not used or len(values) == 1)]
    for name in _PREFERRED:
        if name in names:
            return name
    return min(names, key=lambda name: (len(fixed[name]), name), default=None)


def _is_certain(each: Filter, used: frozenset[str]) -> bool:
    """Whether nothing is left to try once the values of the `used` attributes are known to be right."""
    if isinstance(each, Exact):
        return used.issuperset(name for name, _ in each.terms)
    return isinstance(each, Everything)


def _fixed(each: Filter) -> dict[str, frozenset[str]]:
    """The attributes that an event must have for this filter, with the values that they may have."""
    if isinstance(each, Exact | AttributesFilter):
        return {name: frozenset((value,)) for name, value in each.terms if value}
    if isinstance(each, CesqlFilter):
        return _fixed_by_expression(each.expression.root)
    if not isinstance(each, All | Any) or not each.filters:
        return {}
    children = []
    # A loop, as a comprehension would take a second call for each level.
    for child in each.filters:
        children.append(_fixed(child))  # noqa: PERF401 - see above
    return _fixed_by_all(children) if isinstance(each, All) else _fixed_by_any(children)


def _fixed_by_expression(node: Node) -> dict[str, frozenset[str]]:
    """The same for the events that an expression can be true for. Attributes are text here, as filters see them."""
    match node:
        case Logic(operator="AND"):
            return _fixed_by_all([_fixed_by_expression(each) for each in node.operands])
        case Logic(operator="OR"):
            return _fixed_by_any([_fixed_by_expression(each) for each in node.operands])
        case Binary(operator="=", left=Attribute(name=name), right=Literal(value=str(value))):
            return {name: frozenset((value,))}
        case Binary(operator="=", left=Literal(value=value), right=Attribute(name=name)):
            # The right operand is text, so the left one is compared as text.
            return {name: frozenset((to_string(value),))}
        case In(operand=Attribute(name=name), negated=False):
            texts = literal_texts(node)
            return {} if texts is None else {name: texts}
    return {}


def _fixed_by_all(children: list[dict[str, frozenset[str]]]) -> dict[str, frozenset[str]]:
    fixed: dict[str, frozenset[str]] = {}
    for child in children:
        for name, values in child.items():
            fixed[name] = fixed[name] & values if name in fixed else values
    return fixed


def _fixed_by_any(children: list[dict[str, frozenset[str]]]) -> dict[str, frozenset[str]]:
    names = set(children[0]).intersection(*children[1:])
    return {name: frozenset().union(*(child[name] for child in children)) for name in names}
