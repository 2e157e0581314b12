"""Lists that are sets or maps by their schema: no item may stand twice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from controller.embedded.status import Cause
from controller.objects.kind import EMPTY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def repeated_items(schema: Mapping[str, Any], value: object, path: str = "") -> Iterator[Cause]:
    """The first repetition of each item: of a value in a set, of the keys in a map."""
    if isinstance(value, list):
        keys = _identities(schema, value)
        for index in _second_times(keys):
            text = f"Duplicate value: {json.dumps(keys[index], separators=(',', ':'), ensure_ascii=False)}"
            yield Cause(f"{path}[{index}]", "FieldValueDuplicate", text)
        for index, item in enumerate(value):
            yield from repeated_items(schema.get("items", EMPTY), item, f"{path}[{index}]")
    elif isinstance(value, dict):
        others = schema.get("additionalProperties")
        for name, each in value.items():
            inner = schema.get("properties", EMPTY).get(name, others)
            if isinstance(inner, dict):
                yield from repeated_items(inner, each, f"{path}.{name}" if path else name)


def _identities(schema: Mapping[str, Any], items: Sequence[Any]) -> Sequence[Any]:
    kind = schema.get("x-kubernetes-list-type")
    if kind == "set":
        return items
    if kind != "map":
        return ()
    names = schema.get("x-kubernetes-list-map-keys", ())
    return [{name: item[name] for name in sorted(names) if name in (item or EMPTY)} for item in items]


def _second_times(keys: Sequence[Any]) -> Iterator[int]:
    seen: dict[str, int] = {}
    for index, key in enumerate(keys):
        text = json.dumps(key, sort_keys=True)
        seen[text] = seen.get(text, 0) + 1
        if seen[text] == 2:
            yield index
