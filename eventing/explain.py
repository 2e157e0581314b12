"""Why a filter matches an event or does not: the same decision as `Filter.matches`, as a tree that a person can read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from eventing.attributes import quote
from eventing.cesql import CesqlFilter, Failure
from eventing.cesql.compiler import compile_node, static_type
from eventing.cesql.syntax import Attribute, Exists, Logic, Unary, walk
from eventing.cesql.values import Type, to_boolean
from eventing.filters import All, Any, AttributesFilter, Everything, Exact, Not, Prefix, Suffix

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eventing.cesql.syntax import Node
    from eventing.filters import Filter

_LOGIC: Final = {"AND": "all of", "OR": "any of", "XOR": "an odd number of"}


@dataclass(frozen=True, slots=True)
class Explanation:
    """One part of a filter and what became of it.

    `compared` are the attributes that a part without `parts` looks at, with the event's values; None where the event has
    none. `error` says why a CESQL expression failed. Every part is explained, also where an earlier one had decided.
    """

    term: str
    matched: bool
    compared: tuple[tuple[str, str | None], ...] = ()
    error: str = ""
    parts: tuple[Explanation, ...] = ()


def explain(each: Filter, attributes: Mapping[str, str]) -> Explanation:
    """The decision about an event with these attributes, part by part."""
    match each:
        case Everything():
            return Explanation("every event", matched=True)
        case Not():
            part = explain(each.filter, attributes)
            return Explanation("not", not part.matched, parts=(part,))
        case All() | Any():
            parts = []
            # A loop, as a comprehension would take a second call for each level.
            for child in each.filters:
                parts.append(explain(child, attributes))  # noqa: PERF401 - see above
            decide, term = (all, "all of") if isinstance(each, All) else (any, "any of")
            return Explanation(term, decide(part.matched for part in parts), parts=tuple(parts))
        case AttributesFilter() | Exact() | Prefix() | Suffix():
            return _terms(each, attributes)
        case CesqlFilter():
            return _node(each.expression.root, each.expression.text, attributes)
        case _:
            return Explanation(repr(each), each.matches(attributes))


def _terms(each: AttributesFilter | Exact | Prefix | Suffix, attributes: Mapping[str, str]) -> Explanation:
    verb, matches = _comparison(each)
    parts = []
    for name, value in each.terms:
        found = attributes.get(name)
        if isinstance(each, AttributesFilter) and not value:
            parts.append(Explanation(f"{name} is there and not empty", bool(found), ((name, found),)))
        else:
            matched = found is not None and matches(found, value)
            parts.append(Explanation(f"{name} {verb} {quote(value)}", matched, ((name, found),)))
    if len(parts) == 1:
        return parts[0]
    return Explanation("all of", all(part.matched for part in parts), parts=tuple(parts))


def _comparison(each: AttributesFilter | Exact | Prefix | Suffix) -> tuple[str, Callable[[str, str], bool]]:
    if isinstance(each, Prefix):
        return "begins with", str.startswith
    if isinstance(each, Suffix):
        return "ends with", str.endswith
    return "is", str.__eq__


def _node(node: Node, text: str, attributes: Mapping[str, str]) -> Explanation:
    result = compile_node(node)(attributes)
    error = result.detail if isinstance(result, Failure) else ""
    matched = not isinstance(result, Failure) and to_boolean(result) is True
    if isinstance(node, Logic):
        parts = [_node(operand, text, attributes) for operand in node.operands]
        return Explanation(_LOGIC[node.operator], matched, error=error, parts=tuple(parts))
    if isinstance(node, Unary) and node.operator == "NOT" and static_type(node.operand, Type.STRING) is Type.BOOLEAN:
        return Explanation("not", matched, error=error, parts=(_node(node.operand, text, attributes),))
    names = sorted({each.name for each in walk(node) if isinstance(each, Attribute | Exists)})
    compared = tuple([(name, attributes.get(name)) for name in names])
    term = text[node.span.start : node.span.end]
    return Explanation("".join(one if one.isprintable() else " " for one in term), matched, compared, error)
