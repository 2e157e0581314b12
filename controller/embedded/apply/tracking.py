"""managedFields through the life of an object: creates, updates, patches and applies, one call each."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from controller.embedded.apply import last_applied
from controller.embedded.apply.errors import ApplyError, Conflicts, TypedError, WrongConfiguration
from controller.embedded.apply.managers import (
    Managed,
    ManagerId,
    Owned,
    applier,
    decode_managed,
    encode_managed,
    is_reset,
    limit_updaters,
    updater,
)
from controller.embedded.apply.paths import FieldSet, field_element
from controller.embedded.apply.typed import check
from controller.embedded.patch import same
from controller.objects.kind import EMPTY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.embedded.apply.ownership import Ownership
    from controller.objects.kind import JsonObject

_BEFORE = "before-first-apply"
_THIS_WRITE = ManagerId("current-operation", "Update")
_METADATA_OF_THE_SERVER = (
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
)


def field_path(*names: str) -> tuple[str, ...]:
    return tuple(map(field_element, names))


NEVER_OWNED: FieldSet = frozenset(
    {
        *(field_path(name) for name in ("apiVersion", "kind", "metadata")),
        *(field_path("metadata", name) for name in _METADATA_OF_THE_SERVER),
    }
)
"""What says which object it is, and what the server alone writes."""


@dataclass(frozen=True, slots=True)
class Tracker:
    """Keeps managedFields for writes to one kind through one of its resources (`subresource` "" for the object itself).

    `blank` is what an object has that nobody wrote: the structs of a core kind.
    """

    rules: Ownership
    kind: str
    subresource: str = ""
    blank: Mapping[str, Any] = field(default_factory=lambda: EMPTY)

    @property
    def api_version(self) -> str:
        return self.rules.api_version

    def updated(self, old: JsonObject | None, new: JsonObject, manager: str, now: str) -> list[JsonObject]:
        """The managedFields after a create (`old` is None), update or patch by `manager` at `now` (RFC 3339).

        Both objects are whole, with defaults; `new` may have managedFields of its own, as they came from the client.
        An object that nobody tracked is not tracked from its middle on: empty.
        """
        managed = self._before(old, new)
        if old is not None and not managed.owned:
            return []
        try:
            return encode_managed(self._update(old or self._nothing(), _bare(new), managed, manager, now))
        except ApplyError:
            # The object does not fit its schema: it will be refused, or is older than the schema.
            return []

    def applied(self, old: JsonObject | None, config: JsonObject, manager: str, now: str, *, force: bool) -> JsonObject:
        """The object, with its managedFields, after `manager` applied `config` at `now`.

        `old` is None where there is none yet. The result has no defaults and may have nulls where the schema allows
        none. Raises Conflicts unless `force`, TypedError if `config` does not fit the schema, WrongConfiguration.
        """
        self._check_config(config)
        live = old or self._nothing()
        managed = decode_live(live)
        try:
            new, managed = self._apply(live, config, managed, manager, now, force=force)
        except Conflicts as conflicts:
            if manager != last_applied.KUBECTL:
                raise
            # kubectl may take what it wrote itself when it still applied on the client's side.
            left = last_applied.not_allowed(self.rules.shape, live, conflicts, self.api_version)
            if left:
                raise Conflicts(left) from conflicts
            new, managed = self._apply(live, config, managed, manager, now, force=True)
        if manager == last_applied.KUBECTL:
            new = last_applied.rewritten(new, config)
        return _with_managed(new, encode_managed(managed))

    def _before(self, old: JsonObject | None, new: JsonObject) -> Managed:
        """Who owned what before the write: what the client says of it, or else what the object says."""
        live = Managed() if old is None else decode_live(old)
        given = new["metadata"].get("managedFields")
        if self.subresource:
            return live
        if is_reset(given):
            return Managed()
        try:
            return decode_managed(given) if given else live
        except ValueError:
            return live

    def _update(self, old: JsonObject, new: JsonObject, managed: Managed, manager: str, now: str) -> Managed:
        check(self.rules.shape, new, duplicates=True)
        check(self.rules.shape, old, duplicates=True)
        owned = self.rules.update(old, new, managed.owned, _THIS_WRITE)
        result = Managed(owned, dict(managed.times))
        written = _stripped(owned.pop(_THIS_WRITE, None))
        if written is not None:
            writer = updater(manager, self.api_version, self.subresource)
            fields = written.fields | (owned[writer].fields if writer in owned else frozenset())
            owned[writer] = Owned(fields, self.api_version)
            result.times[writer] = now
        return limit_updaters(result)

    def _apply(
        self, live: JsonObject, config: JsonObject, managed: Managed, manager: str, now: str, *, force: bool
    ) -> tuple[JsonObject, Managed]:
        if not managed.owned:
            managed = self._update(self._nothing(), _bare(live), managed, _BEFORE, now)
        _check_as("patch", self, config)
        _check_as("live", self, live)
        writer = applier(manager, self.subresource)
        new, owned = self.rules.apply(live, config, managed.owned, writer, force=force)
        result = Managed(owned, dict(managed.times))
        if not same(new, live):
            result.times[writer] = now
        mine = _stripped(owned.pop(writer, None))
        if mine is not None:
            owned[writer] = mine
        return new, result

    def _check_config(self, config: JsonObject) -> None:
        version, kind = str(config.get("apiVersion") or ""), str(config.get("kind") or "")
        if (version, kind) != (self.api_version, self.kind):
            raise WrongConfiguration(f"invalid object type: {_type_text(version, kind)}")
        metadata = config.get("metadata")
        if isinstance(metadata, dict) and metadata.get("managedFields") is not None:
            raise WrongConfiguration("metadata.managedFields must be nil")

    def _nothing(self) -> JsonObject:
        return {"apiVersion": self.api_version, "kind": self.kind, **copy.deepcopy(dict(self.blank))}


def decode_live(value: JsonObject) -> Managed:
    """The managers of a stored object; none where they cannot be read."""
    try:
        return decode_managed(value.get("metadata", {}).get("managedFields"))
    except ValueError:
        return Managed()


def _check_as(role: str, tracker: Tracker, value: JsonObject) -> None:
    try:
        check(tracker.rules.shape, value, duplicates=role == "live")
    except TypedError as error:
        metadata: Any = value.get("metadata")
        named: Mapping[str, Any] = metadata if isinstance(metadata, dict) else {}
        name = f"{named.get('namespace', '')}/{named.get('name', '')}; {_type_text(tracker.api_version, tracker.kind)}"
        raise TypedError([f"failed to create typed {role} object ({name}): {error}"]) from error


def _type_text(api_version: str, kind: str) -> str:
    """`apps/v1, Kind=Deployment`, or `/v1, Kind=Service` without a group."""
    return f"{api_version if '/' in api_version else f'/{api_version}'}, Kind={kind}"


def _stripped(owned: Owned | None) -> Owned | None:
    """Without what nobody owns; None where nothing is left."""
    fields = frozenset() if owned is None else owned.fields - NEVER_OWNED
    return Owned(fields, owned.api_version) if owned is not None and fields else None


def _bare(value: JsonObject) -> JsonObject:
    return _with_managed(value, [])


def _with_managed(value: JsonObject, entries: list[JsonObject]) -> JsonObject:
    metadata = {name: each for name, each in (value.get("metadata") or {}).items() if name != "managedFields"}
    if entries:
        metadata["managedFields"] = entries
    return value | {"metadata": metadata}
