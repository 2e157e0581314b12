"""The objects as the watches have shown them, and who depends on which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.reconcile.world import dependency_key, slices_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from controller.objects.kind import JsonObject, ObjectKey


class LiveWorld:
    """A `reconcile.World` that changes, and tells whom a change concerns."""

    def __init__(self) -> None:
        self._objects: dict[ObjectKey, JsonObject] = {}
        self._slices: dict[ObjectKey, dict[ObjectKey, JsonObject]] = {}
        self._asked: dict[ObjectKey, frozenset[ObjectKey]] = {}
        self._dependents: dict[ObjectKey, dict[ObjectKey, None]] = {}
        self.kinds_asked_for: set[tuple[str, str]] = set()
        """Group and kind of everything that somebody ever depended on."""

    def get(self, key: ObjectKey) -> JsonObject | None:
        """The object with this key, or None where it does not exist."""
        return self._objects.get(key)

    def endpoint_slices(self, namespace: str, service: str) -> Sequence[JsonObject]:
        """The EndpointSlices of a Service, in the order of their names."""
        slices = self._slices.get(slices_key(namespace, service), {})
        return [slices[key] for key in sorted(slices)]

    def put(self, key: ObjectKey, obj: JsonObject | None) -> Iterable[ObjectKey]:
        """Take note of an object that is now so (None: gone); return who depends on it."""
        before = self._objects.pop(key, None)
        concerned = {dependency_key(one) for one in (before, obj) if one is not None}
        if key.kind == "EndpointSlice":
            self._put_slice(key, before, obj)
        if obj is not None:
            self._objects[key] = obj
        return [dependent for one in concerned for dependent in self._dependents.get(one, ())]

    def in_use(self) -> Iterator[JsonObject]:
        """The objects that somebody depends on, and those who depend on others: all that a table is made of."""
        for key, obj in self._objects.items():
            if key in self._asked or dependency_key(obj) in self._dependents:
                yield obj

    def _put_slice(self, key: ObjectKey, before: JsonObject | None, obj: JsonObject | None) -> None:
        if before is not None:
            self._slices.get(dependency_key(before), {}).pop(key, None)
        if obj is not None:
            self._slices.setdefault(dependency_key(obj), {})[key] = obj

    def depends(self, key: ObjectKey, on: frozenset[ObjectKey]) -> None:
        """The last reconciliation of `key` asked for these, and for nothing else."""
        for one in self._asked.get(key, frozenset()) - on:
            self._dependents[one].pop(key, None)
            if not self._dependents[one]:
                del self._dependents[one]
        for one in on:
            self._dependents.setdefault(one, {})[key] = None
            self.kinds_asked_for.add((one.group, one.kind))
        if on:
            self._asked[key] = on
        else:
            self._asked.pop(key, None)
