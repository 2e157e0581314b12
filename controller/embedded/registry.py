"""The kinds that one embedded API serves, found by path or by stored resource, and the sources of those not stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from controller.objects.kind import EMPTY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.objects.kind import JsonObject, Kind


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list. `next` is the token that asks for the part after it, "" at the end."""

    items: Sequence[JsonObject]
    next: str = ""
    revision: str = "0"


class ResourceSource(Protocol):
    """Where the objects of a kind with `stored=False` come from.

    Objects are whole (apiVersion, kind, metadata). A source may raise ApiError, which is sent as it is.
    """

    async def list(self, namespace: str, limit: int, continue_: str) -> Page:
        """At most `limit` objects (0: the source decides) of a namespace, or ("") of all."""

    async def get(self, namespace: str, name: str) -> JsonObject | None: ...


@runtime_checkable
class DeletableSource(Protocol):
    """A source whose objects can be deleted."""

    async def delete(self, namespace: str, name: str) -> bool:
        """False if there is no such object."""


@runtime_checkable
class ActingSource(Protocol):
    """A source with actions: `POST .../NAME/ACTION`, served as a subresource with the verb create."""

    @property
    def actions(self) -> Sequence[str]: ...

    async def act(self, namespace: str, name: str, action: str, body: JsonObject) -> JsonObject | None:
        """Do it and return the object or Status to answer with; None if there is no such object."""


class Registry:
    """Raises ValueError if two kinds share a path, or a kind that is not stored has no source."""

    def __init__(self, kinds: Sequence[Kind], sources: Mapping[str, ResourceSource] = EMPTY) -> None:
        self.kinds = tuple(kinds)
        self.sources = sources
        self._by_path = {(kind.group, kind.version, kind.plural): kind for kind in kinds}
        if len(self._by_path) != len(self.kinds):
            raise ValueError("two kinds have the same group, version and plural")
        if missing := [kind.resource for kind in kinds if not kind.stored and kind.resource not in sources]:
            raise ValueError(f"no source for {', '.join(missing)}: a kind with stored=False needs one")
        self.stored = {kind.resource: kind for kind in reversed(self.kinds) if kind.stored}
        self.namespace = self._by_path.get(("", "v1", "namespaces"))

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        return self._by_path.get((group, version, plural))

    def owner(self, api_version: str, name: str) -> Kind | None:
        """The stored kind that an owner reference names; its version does not matter."""
        group = api_version.rpartition("/")[0]
        return next((kind for kind in self.stored.values() if (kind.group, kind.kind) == (group, name)), None)

    def groups(self) -> Mapping[str, Mapping[str, Sequence[Kind]]]:
        """Kinds by group and version, in the order given: the first version of a group is the preferred one."""
        found: dict[str, dict[str, list[Kind]]] = {}
        for kind in self.kinds:
            found.setdefault(kind.group, {}).setdefault(kind.version, []).append(kind)
        return found

    def verbs(self, kind: Kind) -> Sequence[str]:
        if kind.stored:
            return ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
        source = self.sources[kind.resource]
        return ("delete", "get", "list") if isinstance(source, DeletableSource) else ("get", "list")

    def subresources(self, kind: Kind) -> Mapping[str, Sequence[str]]:
        """The verbs of each subresource."""
        if kind.stored:
            return {"status": ("get", "patch", "update")} if kind.status else {}
        source = self.sources[kind.resource]
        return dict.fromkeys(source.actions, ("create",)) if isinstance(source, ActingSource) else {}
