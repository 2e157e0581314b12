"""Expressions as values: any that can be evaluated, and those that a Trigger may have as its filter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from eventing.cesql.checks import check, warnings
from eventing.cesql.compiler import compile_node, static_type
from eventing.cesql.parser import parse
from eventing.cesql.values import ZERO, Failure, Type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventing.cesql.compiler import Run
    from eventing.cesql.syntax import Node, Value


class Evaluation(NamedTuple):
    """What an expression comes to: a value always, and the error where there was one."""

    value: Value
    error: Failure | None = None


@dataclass(frozen=True, slots=True)
class Expression:
    """A correct expression of any type. Two that were written alike are equal."""

    text: str
    root: Node = field(compare=False, repr=False)
    run: Run = field(compare=False, repr=False)

    def evaluate(self, attributes: Mapping[str, Value]) -> Evaluation:
        """The value for an event with these attributes, by lower-case name. Never raises."""
        result = self.run(attributes)
        if not isinstance(result, Failure):
            return Evaluation(result)
        if result.span == self.root.span:
            return Evaluation(result.value, result)
        return Evaluation(ZERO[static_type(self.root, Type.ANY)], result)


@dataclass(frozen=True, slots=True)
class CesqlFilter:
    """Matches the events for which a Boolean expression is true; where it fails, the event does not match.

    `warnings` tell its author what may not be meant so.
    """

    expression: Expression
    warnings: tuple[str, ...] = field(compare=False, repr=False)

    def matches(self, attributes: Mapping[str, str]) -> bool:
        return self.expression.run(attributes) is True


def compile_expression(text: str, path: str = "") -> Expression:
    """Any expression, unknown functions included. Raises InvalidFilter where the syntax is wrong."""
    root = parse(text, path)
    return Expression(text, root, compile_node(root))


def compile_cesql(text: str, path: str = "") -> CesqlFilter:
    """The filter of `spec.filters[].cesql`. Raises InvalidFilter for `path` where the syntax is wrong, a function is
    unknown or the result can never be a Boolean.
    """
    expression = compile_expression(text, path)
    check(text, expression.root, path)
    return CesqlFilter(expression, warnings(expression.root))
