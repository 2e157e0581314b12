"""Sets of fields, and their form on the wire (FieldsV1).

A path is a tuple of elements as FieldsV1 writes them: `f:name` is a field, `k:{"port":80}` the item of a list by its
keys, `v:"x"` the item of a set by its value, `i:0` one by its index. A set is a frozenset of paths; that a field is in
it says nothing about those above or below.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from controller.objects.kind import JsonObject

Path: TypeAlias = tuple[str, ...]
FieldSet: TypeAlias = frozenset[Path]

EMPTY_SET: FieldSet = frozenset()
_SELF = "."
_TYPES = "fkvi"


def field_element(name: str) -> str:
    return f"f:{name}"


def key_element(keys: Mapping[str, Any]) -> str:
    return f"k:{_json(keys)}"


def value_element(value: object) -> str:
    return f"v:{_json(value)}"


def _json(value: object) -> str:
    """JSON as Go writes it: sorted, without spaces, with the signs escaped that mean something in HTML."""
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _canonical(value: object) -> object:
    """Numbers that are equal are one element, however they were written."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return {name: _canonical(each) for name, each in value.items()} if isinstance(value, dict) else value


@dataclass(slots=True)
class Node:
    """A set as a tree, for walks beside a value."""

    member: bool = False
    below: dict[str, Node] = field(default_factory=dict)


def tree(paths: Iterable[Path]) -> Node:
    root = Node()
    for path in paths:
        node = root
        for element in path:
            node = node.below.setdefault(element, Node())
        node.member = True
    return root


def encode_fields(paths: Iterable[Path]) -> JsonObject:
    """A set as FieldsV1: `.` stands for a member that has others below it."""
    return _encode(tree(paths))


def _encode(node: Node) -> JsonObject:
    return {
        element: ({_SELF: {}} if each.member and each.below else {}) | _encode(each)
        for element, each in sorted(node.below.items())
    }


def decode_fields(fields: object) -> FieldSet:
    """The set that FieldsV1 stands for. Raises ValueError for what is no such form; elements of unknown types are left out."""
    if not isinstance(fields, dict):
        raise ValueError("fieldsV1 must be an object")  # noqa: TRY004 - a fault of the request, not of the caller
    found: set[Path] = set()
    for element, below in fields.items():
        if element != _SELF:
            _decode(element, below, (), found)
    return frozenset(found)


def _decode(element: str, below: object, above: Path, found: set[Path]) -> None:
    if not isinstance(below, dict) or element[1:2] != ":":
        raise ValueError(f"fieldsV1: cannot read {element!r}")
    if element[0] not in _TYPES:
        return
    path = (*above, _normal(element))
    inner = [(name, each) for name, each in below.items() if name != _SELF]
    if _SELF in below or not inner:
        found.add(path)
    for name, each in inner:
        _decode(name, each, path, found)


def _normal(element: str) -> str:
    """The element as we write it, so that equal ones are equal strings."""
    kind, text = element[:2], element[2:]
    if kind == "f:":
        return element
    value = json.loads(text)
    if kind == "k:" and not isinstance(value, dict):
        raise ValueError(f"fieldsV1: the keys in {element!r} must be an object")
    return kind + _json(value)


def without_parts(paths: FieldSet, left_out: FieldSet) -> FieldSet:
    """The set without the fields in `left_out` and everything below them."""
    if not left_out:
        return paths
    return frozenset(path for path in paths if not any(path[:end] in left_out for end in range(1, len(path) + 1)))


def in_order(paths: Iterable[Path]) -> Sequence[Path]:
    """The fields as an API server lists them: at each level those that end there, then the deeper ones."""
    return sorted(paths, key=lambda path: [(index < len(path) - 1, element) for index, element in enumerate(path)])


def path_text(path: Path) -> str:
    """`.spec.ports[port=80,protocol="TCP"].name`."""
    return "".join(map(element_text, path))


def element_text(element: str) -> str:
    kind, text = element[0], element[2:]
    if kind == "f":
        return f".{text}"
    if kind == "k":
        keys = json.loads(text)
        return f"[{','.join(f'{name}={_plain(keys[name])}' for name in sorted(keys))}]"
    return f"[={_plain(json.loads(text))}]" if kind == "v" else f"[{text}]"


def _plain(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
