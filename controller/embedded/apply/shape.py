"""A schema as server-side apply reads it: what merges field by field or item by item, and what is one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from controller.embedded.apply.errors import UnkeyedItem
from controller.embedded.apply.paths import key_element, value_element
from controller.objects.kind import EMPTY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.embedded.apply.paths import FieldSet, Path

Form: TypeAlias = Literal["map", "list", "scalar", "any"]

_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_FORMS: Mapping[str, Form] = {"object": "map", "array": "list"}


@dataclass(frozen=True, slots=True)
class Shape:
    """A schema at one place. `open` is inherited: unknown fields are allowed below a schema that preserves them.

    Without a `type`, the value decides what it is: maps are merged field by field, lists are one value.
    """

    schema: Mapping[str, Any]
    open: bool = False

    def form(self, value: object) -> Form:
        """What a value counts as here. A typed schema says it; else null may be `any`thing."""
        declared = self.schema.get("type")
        if declared:
            return _FORMS.get(declared, "scalar")
        if value is None:
            return "any"
        return "map" if isinstance(value, dict) else "list" if isinstance(value, list) else "scalar"

    @property
    def atomic_map(self) -> bool:
        return bool(self.schema.get("x-kubernetes-map-type") == "atomic")

    @property
    def atomic_list(self) -> bool:
        kind = self.schema.get("x-kubernetes-list-type")
        if kind is None:
            return bool(self.schema.get("x-kubernetes-patch-strategy") != "merge")
        return bool(kind == "atomic")

    @property
    def keys(self) -> Sequence[str]:
        """The fields that tell the items of a list apart; none in a set."""
        kind = self.schema.get("x-kubernetes-list-type")
        if kind is None and "x-kubernetes-patch-merge-key" in self.schema:
            return (self.schema["x-kubernetes-patch-merge-key"],)
        keys: Sequence[str] = self.schema.get("x-kubernetes-list-map-keys", ()) if kind == "map" else ()
        return keys

    def declares(self, name: str) -> bool:
        return name in self.schema.get("properties", EMPTY)

    def field(self, name: str) -> Shape | None:
        """The shape of a field; None where the schema has no such field."""
        if self.declares(name):
            return self._inner(self.schema["properties"][name])
        others = self.schema.get("additionalProperties")
        if isinstance(others, dict):
            return self._inner(others)
        if others is not None:
            return ANYTHING if others else None
        return ANYTHING if self._open or not self.schema.get("properties") else None

    def items(self) -> Shape:
        return self._inner(self.schema["items"]) if "items" in self.schema else ANYTHING

    @property
    def _open(self) -> bool:
        return self.open or self.schema.get(_PRESERVE) is True

    def _inner(self, schema: Mapping[str, Any]) -> Shape:
        return Shape(schema, self._open)

    def element(self, item: object) -> str:
        """The path element of an item in a list that is merged by items. Raises UnkeyedItem."""
        keys = self.keys
        if not keys:
            return _set_element(item)
        if item is None:
            raise UnkeyedItem("associative list with keys may not have a null element")
        if not isinstance(item, dict):
            raise UnkeyedItem("associative list with keys may not have non-map elements")
        properties = self.schema.get("items", EMPTY).get("properties", EMPTY)
        found = {}
        for name in keys:
            default = properties.get(name, EMPTY).get("default")
            if name in item or default is not None:
                found[name] = item.get(name, default)
        if not found:
            listed = " ".join(f'"{name}"' for name in keys)
            raise UnkeyedItem(
                f"associative list with keys has an element that omits all key fields [{listed}] "
                "(and doesn't have default values for any key fields)"
            )
        return key_element(found)

    def step(self, element: str) -> Shape | None:
        """The shape below a path element; None where there cannot be one."""
        if element.startswith("f:"):
            return self.field(element[2:])
        return self.items() if element.startswith("k:") else None

    def with_named_fields(self, paths: FieldSet) -> FieldSet:
        """The set with every declared field that it has something below of.

        A map that is applied is not itself in the set of its applier, unlike the free names in a map.
        """
        found = set(paths)
        for path in paths:
            found.update(self._named_above(path))
        return frozenset(found)

    def _named_above(self, path: Path) -> list[Path]:
        found = []
        shape: Shape | None = self
        for end, element in enumerate(path[:-1], 1):
            if shape is None:
                break
            if element.startswith("f:") and shape.declares(element[2:]):
                found.append(path[:end])
            shape = shape.step(element)
        return found


ANYTHING = Shape(EMPTY)
"""Where the schema says nothing."""


def _set_element(item: object) -> str:
    if isinstance(item, dict):
        raise UnkeyedItem("associative list without keys has an element that's a map type")
    if isinstance(item, list):
        raise UnkeyedItem("not supported: associative list with lists as elements")
    if item is None:
        raise UnkeyedItem("associative list without keys has an element that's an explicit null")
    return value_element(item)
