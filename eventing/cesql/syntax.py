"""The syntax tree of a CESQL expression. Nodes are equal where they mean the same, wherever they stand in the text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

Value: TypeAlias = str | int | bool
"""The types String, Integer (32 bits, signed) and Boolean."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where a node stands in the text, the parentheses around it included."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that is written out."""

    value: Value
    span: Span = field(compare=False)

    def __eq__(self, other: object) -> bool:
        # True == 1 in Python, but not here.
        return isinstance(other, Literal) and (type(self.value), self.value) == (type(other.value), other.value)

    def __hash__(self) -> int:
        return hash((type(self.value), self.value))


@dataclass(frozen=True, slots=True)
class Attribute:
    """The value of a context attribute; the name is in lower case."""

    name: str
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Unary:
    """`NOT x` or `-x`."""

    operator: str
    operand: Node
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Binary:
    """A comparison or arithmetic; `<>` is written `!=` here."""

    operator: str
    left: Node
    right: Node
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Logic:
    """Two or more operands joined with the same one of AND, OR and XOR."""

    operator: str
    operands: tuple[Node, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Like:
    """`x LIKE 'pattern'`, or with `negated` `x NOT LIKE 'pattern'`."""

    operand: Node
    pattern: str
    negated: bool
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class In:
    """`x IN (...)`, or with `negated` `x NOT IN (...)`."""

    operand: Node
    elements: tuple[Node, ...]
    negated: bool
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Exists:
    """`EXISTS name`."""

    name: str
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A function, known or not; the name is in upper case."""

    name: str
    arguments: tuple[Node, ...]
    span: Span = field(compare=False)


Node: TypeAlias = Literal | Attribute | Unary | Binary | Logic | Like | In | Exists | Call


def children(node: Node) -> tuple[Node, ...]:
    """The nodes right below this one, in the order of the text."""
    match node:
        case Unary() | Like():
            return (node.operand,)
        case Binary():
            return (node.left, node.right)
        case Logic():
            return node.operands
        case In():
            return (node.operand, *node.elements)
        case Call():
            return node.arguments
        case _:
            return ()


def walk(root: Node) -> Iterator[Node]:
    """The node and everything below it, in the order of the text."""
    todo = [root]
    while todo:
        node = todo.pop()
        yield node
        todo.extend(reversed(children(node)))
