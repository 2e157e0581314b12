"""Values beside their shape: whether they fit, which fields they have, and what changed between two of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from controller.embedded.apply.errors import TypedError, UnkeyedItem
from controller.embedded.apply.paths import (
    EMPTY_SET,
    FieldSet,
    Path,
    element_text,
    field_element,
    without_parts,
)
from controller.embedded.patch import same

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from controller.embedded.apply.shape import Shape


class Absent(Enum):
    """The value of a field that is not there; null is a value."""

    ABSENT = 0


ABSENT = Absent.ABSENT


def check(shape: Shape, value: object, *, duplicates: bool = False) -> None:
    """Raises TypedError if a value does not fit; `duplicates` allows items with equal keys, as stored objects may have."""
    if faults := list(_faults(shape, value, "", duplicates=duplicates)):
        raise TypedError([f"{path}: {text}" if path else text for path, text in faults])


def _faults(shape: Shape, value: object, path: str, *, duplicates: bool) -> Iterator[tuple[str, str]]:
    if value is None:
        return
    match shape.form(value):
        case "map" if isinstance(value, dict):
            for name in sorted(value):
                inner = shape.field(name)
                if inner is None:
                    yield f"{path}.{name}", "field not declared in schema"
                    return
                yield from _faults(inner, value[name], f"{path}.{name}", duplicates=duplicates)
        case "list" if isinstance(value, list):
            yield from _item_faults(shape, value, path, duplicates=duplicates)
        case "scalar":
            yield from ((path, text) for text in _scalar_faults(shape.schema, value))
        case form:
            yield path, f"expected {form}, got {_go_value(value)}"


def _item_faults(shape: Shape, value: list[Any], path: str, *, duplicates: bool) -> Iterator[tuple[str, str]]:
    seen = set()
    for index, item in enumerate(value):
        where = f"{path}[{index}]"
        if not shape.atomic_list:
            try:
                element = shape.element(item)
            except UnkeyedItem as error:
                yield path, f"element {index}: {error}"
                return
            if element in seen and not duplicates:
                yield path, f"duplicate entries for key {element_text(element)}"
            seen.add(element)
            where = path + element_text(element)
        yield from _faults(shape.items(), item, where, duplicates=duplicates)


def _scalar_faults(schema: Mapping[str, Any], value: object) -> Iterator[str]:
    plain = isinstance(value, str | int | float)
    match schema.get("type"):
        case "integer" | "number":
            if isinstance(value, bool) or not isinstance(value, int | float):
                yield f"expected numeric (int or float), got {_go_type(value)}"
        case "string" if schema.get("format", "") in ("", "byte"):
            if not isinstance(value, str):
                yield f"expected string, got &value.valueUnstructured{{Value:{_go_syntax(value)}}}"
        case "boolean":
            if not isinstance(value, bool):
                yield f"expected boolean, got {_go_value(value)}"
        case _ if not plain:
            yield f"expected any scalar, got {_go_value(value)}"


def _go_type(value: object) -> str:
    names = {bool: "bool", int: "int64", float: "float64", str: "string", list: "[]interface {}"}
    return names.get(type(value), "map[string]interface {}")


def _go_value(value: object) -> str:
    """A value as Go's %v prints the API server's wrapper of it."""
    return f"&{{{_go_plain(value)}}}"


def _go_plain(value: object) -> str:
    if isinstance(value, dict):
        return f"map[{' '.join(f'{name}:{_go_plain(value[name])}' for name in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_go_plain, value))}]"
    if isinstance(value, str):
        return value
    return "<nil>" if value is None else json.dumps(value)


def _go_syntax(value: object) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(name)}:{_go_syntax(value[name])}" for name in sorted(value))
        return f"map[string]interface {{}}{{{inner}}}"
    if isinstance(value, list):
        return f"[]interface {{}}{{{', '.join(map(_go_syntax, value))}}}"
    return "interface {}(nil)" if value is None else json.dumps(value)


def field_set(shape: Shape, value: object) -> FieldSet:
    """The fields that an applied configuration claims: its leaves, its list items, and the free names in its maps."""
    found: set[Path] = set()
    _collect(shape, value, (), found)
    return frozenset(found - {()})


def _collect(shape: Shape, value: object, path: Path, found: set[Path]) -> None:
    match shape.form(value):
        case "map" | "any":
            if shape.atomic_map:
                found.add(path)
            elif isinstance(value, dict):
                for name, inner in value.items():
                    _collect_field(shape, name, inner, path, found)
        case "list":
            if shape.atomic_list:
                found.add(path)
            elif isinstance(value, list):
                _collect_items(shape, value, path, found)
        case _:
            found.add(path)


def _collect_field(shape: Shape, name: str, value: object, path: Path, found: set[Path]) -> None:
    below = (*path, field_element(name))
    inner = shape.field(name)
    if inner is not None:
        _collect(inner, value, below, found)
    if value is None or value == {} or not shape.declares(name):
        found.add(below)


def _collect_items(shape: Shape, value: list[Any], path: Path, found: set[Path]) -> None:
    elements = [shape.element(item) for item in value]
    for element, item in zip(elements, value, strict=True):
        found.add((*path, element))
        # Of items that cannot be told apart only the key is claimed.
        if elements.count(element) == 1:
            _collect(shape.items(), item, (*path, element), found)


@dataclass(slots=True)
class Comparison:
    """What is in one value and not in another: `added`, `removed`, and `modified` where both have it."""

    added: FieldSet = EMPTY_SET
    modified: FieldSet = EMPTY_SET
    removed: FieldSet = EMPTY_SET

    @property
    def written(self) -> FieldSet:
        return self.added | self.modified

    def without(self, ignored: FieldSet) -> Comparison:
        """Only what is not in or below the `ignored` fields."""
        parts = (self.added, self.modified, self.removed)
        return Comparison(*(without_parts(part, ignored) for part in parts))


def compare(shape: Shape, old: object, new: object) -> Comparison:
    """What changed from `old` to `new`. Containers that come or go are in it, with all that is in them."""
    found = _Changes()
    _compare(shape, old, new, (), found)
    parts = (found.added, found.modified, found.removed)
    return Comparison(*(frozenset(part - {()}) for part in parts))


@dataclass(slots=True)
class _Changes:
    added: set[Path] = field(default_factory=set)
    modified: set[Path] = field(default_factory=set)
    removed: set[Path] = field(default_factory=set)

    def leaf(self, old: object, new: object, path: Path) -> None:
        if old is ABSENT:
            self.added.add(path)
        elif new is ABSENT:
            self.removed.add(path)
        elif not same(old, new):
            self.modified.add(path)


def _compare(shape: Shape, old: object, new: object, path: Path, found: _Changes) -> None:
    for form in forms_of(shape, old, new):
        leaf = _compare_as(form, shape, old, new, path, found)
    if not leaf:
        if old is ABSENT:
            found.added.add(path)
        elif new is ABSENT:
            found.removed.add(path)


def forms_of(shape: Shape, old: object, new: object) -> Sequence[str]:
    """What two values count as; two forms where they differ, which only a schema without type allows."""
    if new is ABSENT:
        return (shape.form(old),)
    form = shape.form(new)
    if old is ABSENT or shape.form(old) == form:
        return (form,)
    return (shape.form(old), form)


def _compare_as(form: str, shape: Shape, old: object, new: object, path: Path, found: _Changes) -> bool:
    """Whether it was compared as one value."""
    if form in ("map", "any"):
        left, right = as_map(old), as_map(new)
        if not shape.atomic_map and (left or right):
            for name in sorted(left.keys() | right.keys()):
                inner = shape.field(name)
                if inner is not None:
                    pair = left.get(name, ABSENT), right.get(name, ABSENT)
                    _compare(inner, *pair, (*path, field_element(name)), found)
            return False
    elif form == "list":
        items = as_list(old), as_list(new)
        if not shape.atomic_list and any(items):
            _compare_items(shape, *items, path, found)
            return False
    found.leaf(old, new, path)
    return True


def _compare_items(shape: Shape, old: list[Any], new: list[Any], path: Path, found: _Changes) -> None:
    left, right = _by_element(shape, old), _by_element(shape, new)
    for element in left.keys() | right.keys():
        before, after = left.get(element, []), right.get(element, [])
        below = (*path, element)
        # Items that cannot be told apart are one value together.
        if len(before) > 1 and len(after) > 1:
            if not same(before, after):
                found.modified.add(below)
        elif len(before) > 1:
            if after:
                _compare(shape.items(), ABSENT, after[0], below, found)
            found.removed.add(below)
        elif len(after) > 1:
            if before:
                _compare(shape.items(), before[0], ABSENT, below, found)
            found.added.add(below)
        else:
            pair = before[0] if before else ABSENT, after[0] if after else ABSENT
            _compare(shape.items(), *pair, below, found)


def _by_element(shape: Shape, items: list[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for item in items:
        found.setdefault(shape.element(item), []).append(item)
    return found


def as_map(value: object) -> dict[str, Any]:
    """A value as a map: one that is none has nothing in it."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
