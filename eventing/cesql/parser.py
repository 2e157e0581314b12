"""From tokens to the syntax tree: a parser by hand, so that every fault has its place and says what was expected.

It follows the grammar of CloudEvents SQL 1.0 (CESQLParser.g4): unary operators bind tightest, then LIKE and IN, then
arithmetic, comparisons and last AND, OR and XOR, which stand on one level and are right-associative.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from eventing.cesql.lexer import invalid, tokenize
from eventing.cesql.syntax import Attribute, Binary, Call, Exists, In, Like, Literal, Logic, Span, Unary

if TYPE_CHECKING:
    from eventing.cesql.lexer import Token
    from eventing.cesql.syntax import Node
    from eventing.errors import InvalidFilter

MAX_DEPTH: Final = 50
"""How deep an expression may be nested. What walks it calls itself for each level, inside filters that do so too."""

LEVELS: Final = {"*": 3, "/": 3, "%": 3, "+": 2, "-": 2} | dict.fromkeys(("=", "!=", "<>", "<", "<=", ">", ">="), 1)
"""How tight the binary operators bind; those of one level are taken from left to right."""

LOGIC: Final = frozenset({"AND", "OR", "XOR"})

_INT32: Final = range(-(2**31), 2**31)
_LONGEST: Final = len("+2147483648")
_NAME: Final = re.compile(r"[A-Za-z0-9]+")
_FUNCTION: Final = re.compile(r"[A-Za-z][A-Za-z_]*")
_OPERAND: Final = "an attribute, a value, a function, NOT, EXISTS or ("
_TOO_DEEP: Final = f"the expression is nested more than {MAX_DEPTH} deep here"


def parse(text: str, path: str = "") -> Node:
    """Read an expression. Raises InvalidFilter for `path`, with the place of the fault and what was expected there."""
    return _Parser(text, path).parsed()


class _Parser:
    def __init__(self, text: str, path: str) -> None:
        self._text = text
        self._path = path
        self._tokens = tokenize(text, path)
        self._last: Token | None = None
        self._token = next(self._tokens)
        self._heights: dict[Span, int] = {}

    def parsed(self) -> Node:
        root = self._expression(1)
        if self._token.kind != "end":
            raise self._unexpected("an operator or the end")
        return root

    def _expression(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._error(self._token.start, _TOO_DEEP)
        operands = [self._comparison(depth)]
        operators = []
        while self._token.kind == "keyword" and self._token.text in LOGIC:
            operators.append(self._take())
            operands.append(self._comparison(depth))
        return self._joined(operands, operators)

    def _joined(self, operands: list[Node], operators: list[Token]) -> Node:
        """The operands joined from the right; those that stand in a row with one operator become one node."""
        right = operands.pop()
        while operators:
            operator = operators.pop().text
            row = [operands.pop(), right]
            while operators and operators[-1].text == operator:
                operators.pop()
                row.insert(0, operands.pop())
            right = self._node(Logic(operator, tuple(row), _from_to(row[0], right)), *row)
        return right

    def _comparison(self, depth: int) -> Node:
        operands = [self._operand(depth)]
        operators: list[str] = []
        while self._token.kind == "symbol" and self._token.text in LEVELS:
            operator = self._take().text
            while operators and LEVELS[operators[-1]] >= LEVELS[operator]:
                self._reduce(operands, operators)
            operators.append(operator)
            operands.append(self._operand(depth))
        while operators:
            self._reduce(operands, operators)
        return operands[0]

    def _reduce(self, operands: list[Node], operators: list[str]) -> None:
        right, left = operands.pop(), operands.pop()
        operator = operators.pop()
        node = Binary("!=" if operator == "<>" else operator, left, right, _from_to(left, right))
        operands.append(self._node(node, left, right))

    def _operand(self, depth: int) -> Node:
        unary = []
        while self._is("keyword", "NOT") or self._is("symbol", "-"):
            unary.append(self._take())
        node = self._primary(depth)
        for each in reversed(unary):
            node = self._node(Unary(each.text, node, Span(each.start, node.span.end)), node)
        return self._postfixed(node, depth)

    def _postfixed(self, node: Node, depth: int) -> Node:
        while self._token.kind == "keyword" and self._token.text in ("NOT", "LIKE", "IN"):
            negated = self._is("keyword", "NOT")
            if negated:
                self._take()
            if self._is("keyword", "LIKE"):
                node = self._like(node, negated=negated)
            elif self._is("keyword", "IN"):
                node = self._in(node, depth, negated=negated)
            else:
                raise self._unexpected("LIKE or IN")
        return node

    def _like(self, operand: Node, *, negated: bool) -> Node:
        self._take()
        if self._token.kind != "text":
            raise self._unexpected("a pattern in quotes")
        pattern = self._take()
        span = Span(operand.span.start, pattern.end)
        return self._node(Like(operand, _unquoted(pattern.text), negated, span), operand)

    def _in(self, operand: Node, depth: int, *, negated: bool) -> Node:
        self._take()
        if not self._is("symbol", "("):
            raise self._unexpected("( and a list of values")
        self._take()
        if self._is("symbol", ")"):
            raise self._unexpected("at least one value")
        elements, end = self._list(depth)
        return self._node(In(operand, elements, negated, Span(operand.span.start, end)), operand, *elements)

    def _list(self, depth: int) -> tuple[tuple[Node, ...], int]:
        """Expressions with commas between them, and where the parenthesis ends that closes them."""
        nodes = [self._expression(depth + 1)]
        while self._is("symbol", ","):
            self._take()
            nodes.append(self._expression(depth + 1))
        return tuple(nodes), self._close(", or )")

    def _close(self, expected: str) -> int:
        if not self._is("symbol", ")"):
            raise self._unexpected(expected)
        return self._take().end

    def _primary(self, depth: int) -> Node:
        token = self._token
        if token.kind == "word":
            return self._name(depth)
        if token.kind == "number":
            return self._integer()
        if token.kind == "text":
            self._take()
            return self._node(Literal(_unquoted(token.text), _span(token)))
        if token.kind == "keyword" and token.text in ("TRUE", "FALSE"):
            self._take()
            return self._node(Literal(token.text == "TRUE", _span(token)))
        if self._is("keyword", "EXISTS"):
            return self._exists()
        if not self._is("symbol", "("):
            raise self._unexpected(_OPERAND)
        return self._group(depth)

    def _group(self, depth: int) -> Node:
        start = self._take().start
        node = self._expression(depth + 1)
        span = Span(start, self._close("an operator or )"))
        self._heights[span] = self._heights[node.span]
        return replace(node, span=span)

    def _name(self, depth: int) -> Node:
        token = self._take()
        if not self._is("symbol", "("):
            return self._node(Attribute(self._attribute(token), _span(token)))
        if _FUNCTION.fullmatch(token.text) is None:
            raise self._error(token.start, f"{token} is no name of a function: it has letters and _ only")
        self._take()
        arguments: tuple[Node, ...] = ()
        if self._is("symbol", ")"):
            end = self._take().end
        else:
            arguments, end = self._list(depth)
        return self._node(Call(token.text.upper(), arguments, Span(token.start, end)), *arguments)

    def _exists(self) -> Node:
        start = self._take().start
        if self._token.kind != "word":
            raise self._unexpected("the name of an attribute")
        name = self._take()
        return self._node(Exists(self._attribute(name), Span(start, name.end)))

    def _attribute(self, token: Token) -> str:
        if _NAME.fullmatch(token.text) is None:
            raise self._error(token.start, f"{token} is no name of an attribute: it has letters and digits only")
        return token.text.lower()

    def _integer(self) -> Node:
        token = self._take()
        # Python refuses to read very long numbers.
        if len(token.text) > _LONGEST or int(token.text) not in _INT32:
            raise self._error(token.start, f"{token} is no integer of 32 bits: use -2147483648 to 2147483647")
        return self._node(Literal(int(token.text), _span(token)))

    def _node(self, node: Node, *below: Node) -> Node:
        """Keep the height of what is built: rows of operators become deep trees without any parentheses."""
        height = 1 + max((self._heights[each.span] for each in below), default=0)
        if height > MAX_DEPTH:
            raise self._error(node.span.start, _TOO_DEEP)
        self._heights[node.span] = height
        return node

    def _is(self, kind: str, text: str) -> bool:
        return self._token.kind == kind and self._token.text == text

    def _take(self) -> Token:
        taken = self._last = self._token
        if taken.kind != "end":
            self._token = next(self._tokens)
        return taken

    def _unexpected(self, expected: str) -> InvalidFilter:
        after = f" after {self._last}" if self._last else ""
        return self._error(self._token.start, f"found {self._token}{after}, expected {expected}{self._hint()}")

    def _hint(self) -> str:
        found, last = self._token, self._last
        if found.kind == "number" and found.text[0] in "+-" and last and last.kind in ("word", "number", "text"):
            return f"; a sign right before a digit belongs to the number: write {found.text[0]} {found.text[1:]}"
        if found.kind == "symbol" and found.text == "=" and last and last.text == "=":
            return "; equal is written ="
        return ""

    def _error(self, position: int, detail: str) -> InvalidFilter:
        return invalid(self._text, position, detail, self._path)


def _unquoted(text: str) -> str:
    quote = text[0]
    return text[1:-1].replace(f"\\{quote}", quote)


def _span(token: Token) -> Span:
    return Span(token.start, token.end)


def _from_to(first: Node, last: Node) -> Span:
    return Span(first.span.start, last.span.end)
