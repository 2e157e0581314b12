"""What the reconcilers may look at: other objects, by key."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from controller.objects.kind import ObjectKey
from controller.objects.views import child, key_of, string

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from controller.objects.kind import JsonObject

SERVICE_NAME_LABEL = "kubernetes.io/service-name"


class World(Protocol):
    """The objects of the moment. What is returned is not changed by anybody."""

    def get(self, key: ObjectKey) -> JsonObject | None:
        """The object with this key, or None where it does not exist."""
        ...

    def endpoint_slices(self, namespace: str, service: str) -> Sequence[JsonObject]:
        """The EndpointSlices of a Service, in a stable order."""
        ...


class Objects:
    """A World made of a list of objects."""

    def __init__(self, objects: Iterable[JsonObject]) -> None:
        self._objects: Mapping[ObjectKey, JsonObject] = MappingProxyType({key_of(obj): obj for obj in objects})

    def get(self, key: ObjectKey) -> JsonObject | None:
        return self._objects.get(key)

    def endpoint_slices(self, namespace: str, service: str) -> Sequence[JsonObject]:
        wanted = slices_key(namespace, service)
        return [self._objects[key] for key in sorted(self._objects) if dependency_key(self._objects[key]) == wanted]


class Seen:
    """A World that remembers what was asked for: `keys` are the objects that an answer depends on, missing ones too."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._keys: set[ObjectKey] = set()

    @property
    def keys(self) -> frozenset[ObjectKey]:
        return frozenset(self._keys)

    def get(self, key: ObjectKey) -> JsonObject | None:
        self._keys.add(key)
        return self._world.get(key)

    def endpoint_slices(self, namespace: str, service: str) -> Sequence[JsonObject]:
        self._keys.add(slices_key(namespace, service))
        return self._world.endpoint_slices(namespace, service)


def dependency_key(obj: JsonObject) -> ObjectKey:
    """The key under which `Seen` notes this object: its own, but for an EndpointSlice the one of its whole Service."""
    key = key_of(obj)
    if key.kind == "EndpointSlice":
        return slices_key(key.namespace, string(child(obj, "metadata", "labels"), SERVICE_NAME_LABEL))
    return key


def slices_key(namespace: str, service: str) -> ObjectKey:
    """The key that stands for all EndpointSlices of a Service."""
    return ObjectKey("discovery.k8s.io", "EndpointSlice", namespace, service)
