"""The two ways to write: an update takes what it changes, an apply states what it wants and gives up what it leaves out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from controller.embedded.apply.errors import Conflicts
from controller.embedded.apply.managers import ManagerId, Owned
from controller.embedded.apply.merge import merge, remove
from controller.embedded.apply.paths import EMPTY_SET, in_order, without_parts
from controller.embedded.apply.typed import compare, field_set

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from controller.embedded.apply.paths import FieldSet
    from controller.embedded.apply.shape import Shape
    from controller.embedded.apply.typed import Comparison
    from controller.objects.kind import JsonObject

    Owners = dict[ManagerId, Owned]


@dataclass(frozen=True, slots=True)
class Ownership:
    """The rules for one kind, as it is written through one version and resource.

    `ignored` are the fields that writes of this resource cannot change: status, or all but status. `served` says which
    versions there are; what was written through another is forgotten.
    """

    shape: Shape
    api_version: str
    ignored: FieldSet
    served: Callable[[str], bool]

    def update(self, old: JsonObject, new: JsonObject, owners: Owners, writer: ManagerId) -> Owners:
        """Who owns what after `writer` made `new` of `old`: it has what it changed, and nobody else has that.

        Raises UnkeyedItem for values that do not fit the schema.
        """
        result, changes = self._hand_over(old, new, owners, writer, force=True)
        had = result[writer].fields if writer in result else EMPTY_SET
        fields = without_parts((had - changes.removed) | changes.written, self.ignored)
        return _with(result, writer, fields, self.api_version)

    def apply(
        self, old: JsonObject, config: JsonObject, owners: Owners, writer: ManagerId, *, force: bool
    ) -> tuple[Any, Owners]:
        """The object after `writer` applied `config`, and who owns what then. Raises Conflicts unless `force`."""
        merged = merge(self.shape, old, config)
        before = owners.get(writer)
        last = before.fields if before is not None and self.served(before.api_version) else EMPTY_SET
        fields = without_parts(field_set(self.shape, config), self.ignored)
        claimed = {**owners, writer: Owned(fields, self.api_version)}
        new = self._prune(merged, last, claimed)
        result, _ = self._hand_over(old, new, claimed, writer, force=force)
        return new, result

    def _prune(self, merged: JsonObject, last: FieldSet, owners: Mapping[ManagerId, Owned]) -> Any:
        """Take out what the writer applied last time and nobody claims now."""
        if not last:
            return merged
        shape = self.shape
        named = shape.with_named_fields
        without_last = remove(shape, merged, named(last))
        everything = named(field_set(shape, merged))
        claimed = EMPTY_SET.union(*(owned.fields for owned in owners.values() if self.served(owned.api_version)))
        kept = named(field_set(shape, without_last)) | named(claimed)
        with_owned = remove(shape, merged, everything - kept)
        # What went with it although the writer never had it, below a field that it gave up, comes back.
        gone = everything - named(field_set(shape, with_owned))
        return remove(shape, merged, gone & named(last))

    def _hand_over(
        self, old: JsonObject, new: JsonObject, owners: Mapping[ManagerId, Owned], writer: ManagerId, *, force: bool
    ) -> tuple[Owners, Comparison]:
        """Take what changed from those who had it."""
        changes = compare(self.shape, old, new).without(self.ignored)
        known = {each: owned for each, owned in owners.items() if each == writer or self.served(owned.api_version)}
        conflicts = {each: owned.fields & changes.written for each, owned in known.items() if each != writer}
        if not force and any(conflicts.values()):
            raise Conflicts([(each, path) for each in sorted(conflicts) for path in in_order(conflicts[each])])
        lost = changes.written | changes.removed
        result: Owners = {}
        for each, owned in known.items():
            left = owned.fields if each == writer else owned.fields - lost
            if left:
                result[each] = Owned(left, owned.api_version)
        return result, changes


def _with(owners: Mapping[ManagerId, Owned], writer: ManagerId, fields: FieldSet, api_version: str) -> Owners:
    others = {each: owned for each, owned in owners.items() if each != writer}
    return others | ({writer: Owned(fields, api_version)} if fields else {})
