"""Label and field selectors, as `labelSelector` and `fieldSelector` spell them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.embedded.status import bad_request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from controller.objects.kind import JsonObject, Kind

_KEY = r"[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_SET = re.compile(rf"\s*({_KEY})\s+(in|notin)\s*\(\s*({_VALUE}(?:\s*,\s*{_VALUE})*)\s*\)\s*(?:,|$)")
_COMPARE = re.compile(rf"\s*({_KEY})\s*(==|=|!=|>|<)\s*({_VALUE})\s*(?:,|$)")
_EXISTS = re.compile(rf"\s*(!?)\s*({_KEY})\s*(?:,|$)")
_TERM = re.compile(r"((?:[^,\\]|\\.)*)(?:,|$)")
_FIELD = re.compile(r"([^=!]+?)(==|=|!=)(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects a list, a watch or a deletion is about. Empty: all of them."""

    labels: Sequence[tuple[str, Callable[[str | None], bool]]] = ()
    fields: Sequence[tuple[str, str, bool]] = ()

    def __bool__(self) -> bool:
        return bool(self.labels or self.fields)

    def matches(self, value: JsonObject) -> bool:
        labels = value.get("metadata", {}).get("labels") or {}
        return all(test(labels.get(key)) for key, test in self.labels) and all(
            (_field(value, path) == wanted) is equal for path, wanted, equal in self.fields
        )


EVERYTHING = Selection()


def parse_selection(kind: Kind, labels: str, fields: str) -> Selection:
    """Raises ApiError 400 for a selector that cannot be read, or a field that this kind cannot be selected by."""
    return Selection(parse_labels(labels), parse_fields(kind, fields))


def parse_labels(text: str) -> Sequence[tuple[str, Callable[[str | None], bool]]]:
    """`a=b,c!=d,e in (f,g),h notin (i),j,!k`. A label that is absent satisfies `!=` and `notin`."""
    tests: list[tuple[str, Callable[[str | None], bool]]] = []
    position = 0
    while text[position:].strip():
        for pattern, read in ((_SET, _set_test), (_COMPARE, _compare_test), (_EXISTS, _exists_test)):
            if match := pattern.match(text, position):
                tests.append(read(match))
                position = match.end()
                break
        else:
            raise bad_request(f"unable to parse requirement: unexpected {text[position:]!r} in the label selector")
    if text.rstrip().endswith(","):
        raise bad_request("unable to parse requirement: found '', expected: identifier after ','")
    return tests


def parse_fields(kind: Kind, text: str) -> Sequence[tuple[str, str, bool]]:
    """`metadata.name=x,status.phase!=y` as (path, value, equal); a backslash escapes `,` `=` and itself."""
    known = {"metadata.name", "metadata.namespace"} | {path.lstrip(".") for path in kind.field_selectors}
    terms: list[tuple[str, str, bool]] = []
    position = 0
    while position < len(text):
        term = _TERM.match(text, position)
        field = _FIELD.fullmatch(term[1]) if term else None
        if term is None or field is None:
            raise bad_request(
                f"invalid field selector: {text!r}: invalid selector: '{text[position:]}'; can't understand"
            )
        if field[1] not in known:
            raise bad_request(f"field label not supported: {field[1]}")
        terms.append((field[1], re.sub(r"\\(.)", r"\1", field[3]), field[2] != "!="))
        position = term.end()
    return terms


def _set_test(match: re.Match[str]) -> tuple[str, Callable[[str | None], bool]]:
    values = {value.strip() for value in match[3].split(",")}
    if match[2] == "in":
        return match[1], values.__contains__
    return match[1], lambda value: value not in values


def _compare_test(match: re.Match[str]) -> tuple[str, Callable[[str | None], bool]]:
    key, operator, wanted = match[1], match[2], match[3]
    if operator == "!=":
        return key, lambda value: value != wanted
    if operator in "><":
        return key, _order_test(operator, wanted)
    return key, lambda value: value == wanted


def _order_test(operator: str, wanted: str) -> Callable[[str | None], bool]:
    if not wanted.isdecimal():
        raise bad_request(f"for 'Gt', 'Lt' operators, the value must be an integer, not {wanted!r}")
    limit = int(wanted)

    def test(value: str | None) -> bool:
        if value is None or not value.isdecimal():
            return False
        return int(value) > limit if operator == ">" else int(value) < limit

    return test


def _exists_test(match: re.Match[str]) -> tuple[str, Callable[[str | None], bool]]:
    if match[1]:
        return match[2], lambda value: value is None
    return match[2], lambda value: value is not None


def _field(value: object, path: str) -> str:
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return "" if value is None else str(value)
