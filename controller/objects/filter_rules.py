"""Rules for a Trigger's filters: what Knative's webhook refuses, and everything that cannot be compiled."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from controller.objects.field_errors import FieldError, invalid
from controller.objects.field_rules import unknown_fields
from controller.objects.views import child
from eventing.errors import InvalidFilter
from eventing.filters import MAX_DEPTH, parse_filter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.objects.kind import JsonObject

DIALECTS = frozenset({"exact", "prefix", "suffix", "all", "any", "not", "cesql"})
_NAME = re.compile(r"[a-z][a-z0-9]*")


def filter_errors(spec: JsonObject) -> Iterator[FieldError]:
    """The faults of `spec.filter` and `spec.filters`; where none has a text of Knative's, the compiler is asked."""
    errors = [
        *unknown_fields(child(spec, "filter"), frozenset({"attributes"}), "spec.filter"),
        *_name_errors(child(spec, "filter").get("attributes"), "spec.filter.attributes"),
        *_list_errors(spec.get("filters"), "spec.filters"),
    ]
    if not errors:
        errors.extend(_compile_errors(spec))
    yield from errors


def _compile_errors(spec: JsonObject) -> Iterator[FieldError]:
    try:
        parse_filter(spec)
    except InvalidFilter as error:
        value = _value_at(spec, error.path) if error.path.endswith(".cesql") else None
        yield FieldError(error.detail, (error.path,)) if value is None else invalid(value, error.path, error.detail)


def _value_at(spec: JsonObject, path: str) -> Any:
    value: Any = {"spec": spec}
    for name, index in re.findall(r"([A-Za-z]+)|\[(\d+)\]", path):
        try:
            value = value[name] if name else value[int(index)]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _list_errors(filters: object, path: str, depth: int = 1) -> Iterator[FieldError]:
    for index, element in enumerate(filters if isinstance(filters, list) else ()):
        yield from _element_errors(element, f"{path}[{index}]", depth)


def _element_errors(element: object, path: str, depth: int) -> Iterator[FieldError]:
    # What is nested deeper is for the compiler to refuse: it does so before it runs out of stack.
    if not isinstance(element, dict) or depth > MAX_DEPTH:
        return
    yield from unknown_fields(element, DIALECTS, path)
    dialects = [name for name in element if name in DIALECTS and element[name] is not None]
    if len(dialects) > 1:
        yield FieldError("multiple dialects found, filters can have only one dialect set", (path,))
    for dialect in dialects:
        here = f"{path}.{dialect}"
        if dialect in ("exact", "prefix", "suffix"):
            yield from _name_errors(element[dialect], here)
        elif dialect == "not":
            yield from _element_errors(element[dialect], here, depth + 1)
        elif dialect != "cesql":
            yield from _list_errors(element[dialect], here, depth + 1)


def _name_errors(attributes: object, path: str) -> Iterator[FieldError]:
    for name in attributes if isinstance(attributes, dict) else ():
        if not _NAME.fullmatch(name):
            details = "Attribute name must start with a letter and can only contain lowercase alphanumeric"
            yield FieldError(f'invalid key name "{name}"', (f"{path}[{name}]",), details)
