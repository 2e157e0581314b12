"""What a Trigger's filter is asked beyond correct syntax, and what its author is warned about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventing.cesql.compiler import static_type
from eventing.cesql.functions import BUILT_IN, find
from eventing.cesql.lexer import invalid
from eventing.cesql.syntax import Attribute, Binary, Call, In, Like, Logic, Node, Unary, walk
from eventing.cesql.values import Type

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(text: str, root: Node, path: str) -> None:
    """Raises InvalidFilter for `path` where the expression cannot be a filter.

    The attributes that a filter sees have the text form, so an attribute alone is a String.
    """
    for node in walk(root):
        if isinstance(node, Call) and find(node.name, len(node.arguments)) is None:
            raise invalid(text, node.span.start, _unknown(node), path)
    result = static_type(root, Type.STRING)
    if result is not Type.BOOLEAN:
        detail = f"the result is {_article(result)}, and a filter must be a Boolean: compare it with something"
        raise invalid(text, root.span.start, detail, path)


def warnings(root: Node) -> tuple[str, ...]:
    """What is correct, but often not what was meant."""
    return tuple([warning for node in walk(root) for warning in _warnings(node)])


def _warnings(node: Node) -> Iterator[str]:
    if isinstance(node, Logic):
        last = node.operands[-1]
        # In parentheses it begins before its first operand.
        if isinstance(last, Logic) and last.span.start == last.operands[0].span.start:
            yield (
                f"{node.operator} and {last.operator} are mixed without parentheses (position {last.span.start + 1}) "
                f"and read from the right: a {node.operator} (b {last.operator} c)"
            )
    left = node.left if isinstance(node, Binary) else node.operand if isinstance(node, Like | In) else None
    if isinstance(left, Unary) and left.operator == "NOT" and isinstance(left.operand, Attribute):
        name = left.operand.name
        yield f"NOT {name} (position {left.span.start + 1}) is taken by itself; to negate all of it: NOT ({name} ...)"


def _unknown(call: Call) -> str:
    # Only faults need it.
    from difflib import get_close_matches  # noqa: PLC0415 - see above

    if call.name in BUILT_IN:
        return f"{call.name} does not take {len(call.arguments)} arguments"
    near = get_close_matches(call.name, BUILT_IN, 1)
    known = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(BUILT_IN))}"
    return f"there is no function {call.name}: {known}"


def _article(result: Type) -> str:
    return f"an {result}" if result is Type.INTEGER else f"a {result}"
