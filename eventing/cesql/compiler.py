"""From the syntax tree to closures that evaluate it (CloudEvents SQL 1.0, section 3), failing at the first error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from eventing.cesql.functions import find
from eventing.cesql.like import matcher
from eventing.cesql.syntax import Attribute, Binary, Call, Exists, In, Like, Literal, Logic, Node, Span, Unary, Value
from eventing.cesql.values import (
    ZERO,
    ErrorKind,
    Failure,
    Result,
    Type,
    cast,
    to_boolean,
    to_integer,
    to_string,
    type_of,
    wrapped,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Run: TypeAlias = Callable[[Mapping[str, Value]], Result]

_REQUIRED: Final = frozenset({"id", "source", "specversion", "type"})


def compile_node(node: Node) -> Run:
    """What evaluates the node: it takes the attributes by name and never raises."""
    match node:
        case Literal():
            return _literal(node.value)
        case Attribute():
            return _attribute(node.name, _missing(node.name, node.span))
        case Unary():
            return _not(node) if node.operator == "NOT" else _minus(node)
        case Binary():
            return _equality(node) if node.operator in ("=", "!=") else _integers(node)
        case Logic():
            return _xor(node) if node.operator == "XOR" else _and_or(node)
        case Like():
            return _like(node)
        case In():
            return _in(node)
        case Exists():
            return _exists(node.name)
        case Call():
            return _call(node)


def _literal(value: Value) -> Run:
    return lambda attributes: value  # noqa: ARG005 - it is the same for every event


def _attribute(name: str, missing: Failure) -> Run:
    def run(attributes: Mapping[str, Value]) -> Result:
        value = attributes.get(name)
        return missing if value is None else value

    return run


def _exists(name: str) -> Run:
    if name in _REQUIRED:
        return _literal(value=True)
    return lambda attributes: name in attributes


def _not(node: Unary) -> Run:
    operand, span = compile_node(node.operand), node.span

    def run(attributes: Mapping[str, Value]) -> Result:
        value = operand(attributes)
        if isinstance(value, bool):
            return not value
        if isinstance(value, int):
            # The conformance kit has this as an error whose value is true, though an integer has a cast elsewhere.
            return Failure(ErrorKind.CAST, f"NOT takes a Boolean, not {value}", value=True, span=span)
        value = _boolean(value, span)
        return value if isinstance(value, Failure) else not value

    return run


def _minus(node: Unary) -> Run:
    operand, span = compile_node(node.operand), node.span

    def run(attributes: Mapping[str, Value]) -> Result:
        value = operand(attributes)
        if isinstance(value, Failure):
            return value
        value = to_integer(value)
        return _failed(value, 0, span) if isinstance(value, Failure) else wrapped(-value)

    return run


def _equality(node: Binary) -> Run:
    equal = node.operator == "="
    if isinstance(node.left, Attribute) and isinstance(node.right, Literal) and isinstance(node.right.value, str):
        return _attribute_is(node.left, node.right.value, equal=equal)
    left, right, span = compile_node(node.left), compile_node(node.right), node.span

    def run(attributes: Mapping[str, Value]) -> Result:
        one = left(attributes)
        if isinstance(one, Failure):
            return one
        other = right(attributes)
        if isinstance(other, Failure):
            return other
        # The right operand says which of the three comparisons it is.
        one = cast(one, type_of(other))
        return _failed(one, False, span) if isinstance(one, Failure) else (one == other) is equal

    return run


def _attribute_is(attribute: Attribute, text: str, *, equal: bool) -> Run:
    """The most frequent comparison: an attribute with a text."""
    name, missing = attribute.name, _missing(attribute.name, attribute.span)

    def run(attributes: Mapping[str, Value]) -> Result:
        value = attributes.get(name)
        if value is None:
            return missing
        return ((value if isinstance(value, str) else to_string(value)) == text) is equal

    return run


def _integers(node: Binary) -> Run:
    left, right, span = compile_node(node.left), compile_node(node.right), node.span
    operate, empty = _OPERATIONS[node.operator], ZERO[static_type(node, Type.ANY)]
    zero = Failure(ErrorKind.MATH, "division by zero", empty, span)
    divides = node.operator in ("/", "%")

    def run(attributes: Mapping[str, Value]) -> Result:
        one = left(attributes)
        if isinstance(one, Failure):
            return one
        other = right(attributes)
        if isinstance(other, Failure):
            return other
        one, other = to_integer(one), to_integer(other)
        if isinstance(one, Failure):
            return _failed(one, empty, span)
        if isinstance(other, Failure):
            return _failed(other, empty, span)
        return zero if divides and other == 0 else operate(one, other)

    return run


def _quotient(one: int, other: int) -> int:
    """Rounded to 0, where Python rounds down."""
    quotient = abs(one) // abs(other)
    return wrapped(quotient if (one < 0) is (other < 0) else -quotient)


def _remainder(one: int, other: int) -> int:
    """With the sign of the left operand, where Python has that of the right."""
    remainder = abs(one) % abs(other)
    return -remainder if one < 0 else remainder


_OPERATIONS: Final[dict[str, Callable[[int, int], Value]]] = {
    "+": lambda one, other: wrapped(one + other),
    "-": lambda one, other: wrapped(one - other),
    "*": lambda one, other: wrapped(one * other),
    "/": _quotient,
    "%": _remainder,
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
}


def _and_or(node: Logic) -> Run:
    operands, span = tuple([compile_node(each) for each in node.operands]), node.span
    decisive = node.operator == "OR"

    def run(attributes: Mapping[str, Value]) -> Result:
        for operand in operands:
            value = operand(attributes)
            if value is decisive:
                return decisive
            if not isinstance(value, bool):
                value = _boolean(value, span)
                if value is decisive or isinstance(value, Failure):
                    return value
        return not decisive

    return run


def _xor(node: Logic) -> Run:
    operands, span = tuple([compile_node(each) for each in node.operands]), node.span

    def run(attributes: Mapping[str, Value]) -> Result:
        odd = False
        for operand in operands:
            value = _boolean(operand(attributes), span)
            if isinstance(value, Failure):
                return value
            odd = odd is not value
        return odd

    return run


def _like(node: Like) -> Run:
    operand, matches, expected = compile_node(node.operand), matcher(node.pattern), not node.negated

    def run(attributes: Mapping[str, Value]) -> Result:
        value = operand(attributes)
        if isinstance(value, str):
            return matches(value) is expected
        return value if isinstance(value, Failure) else matches(to_string(value)) is expected

    return run


def _in(node: In) -> Run:
    operand, expected, span = compile_node(node.operand), not node.negated, node.span
    elements = tuple([compile_node(each) for each in node.elements])
    texts = literal_texts(node)

    def run(attributes: Mapping[str, Value]) -> Result:
        sought = operand(attributes)
        if isinstance(sought, Failure):
            return sought
        if texts is not None and isinstance(sought, str):
            return (sought in texts) is expected
        target = type_of(sought)
        for element in elements:
            value = element(attributes)
            if isinstance(value, Failure):
                return value
            value = cast(value, target)
            if isinstance(value, Failure):
                return _failed(value, False, span)
            if value == sought:
                return expected
        return not expected

    return run


def literal_texts(node: In) -> frozenset[str] | None:
    """The elements as a text is compared with them, where all of them are written out."""
    texts = [to_string(each.value) for each in node.elements if isinstance(each, Literal)]
    return frozenset(texts) if len(texts) == len(node.elements) else None


def _call(node: Call) -> Run:
    function, span = find(node.name, len(node.arguments)), node.span
    if function is None:
        detail = f"there is no function {node.name} for {len(node.arguments)} arguments"
        failure = Failure(ErrorKind.MISSING_FUNCTION, detail, value=False, span=span)
        return lambda attributes: failure  # noqa: ARG005 - it is the same for every event
    arguments = tuple([(compile_node(each), function.type_at(index)) for index, each in enumerate(node.arguments)])

    def run(attributes: Mapping[str, Value]) -> Result:
        values = []
        for argument, target in arguments:
            value = argument(attributes)
            if isinstance(value, Failure):
                return value
            value = cast(value, target)
            if isinstance(value, Failure):
                return _failed(value, ZERO[function.result], span)
            values.append(value)
        result = function.run(*values)
        return _failed(result, result.value, span) if isinstance(result, Failure) else result

    return run


def static_type(node: Node, attributes: Type) -> Type:
    """The type of every value of the node, where attributes have the type given."""
    match node:
        case Literal():
            return type_of(node.value)
        case Attribute():
            return attributes
        case Unary():
            return Type.BOOLEAN if node.operator == "NOT" else Type.INTEGER
        case Binary():
            return Type.INTEGER if node.operator in ("+", "-", "*", "/", "%") else Type.BOOLEAN
        case Call():
            function = find(node.name, len(node.arguments))
            return Type.ANY if function is None else function.result
        case _:
            return Type.BOOLEAN


def _missing(name: str, span: Span) -> Failure:
    return Failure(ErrorKind.MISSING_ATTRIBUTE, f"the event has no attribute {name}", value=False, span=span)


def _boolean(value: Result, span: Span) -> bool | Failure:
    if isinstance(value, bool) or isinstance(value, Failure):  # noqa: SIM101 - twice as fast
        return value
    found = to_boolean(value)
    return _failed(found, False, span) if isinstance(found, Failure) else found


def _failed(failure: Failure, value: Value, span: Span) -> Failure:
    """The failure of a cast or a function, as that of the operator or call that it happened in."""
    return Failure(failure.kind, failure.detail, value, span)
