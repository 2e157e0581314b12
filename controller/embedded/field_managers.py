"""Who owns which fields: the trackers of the kinds that are served, and what they refuse as the API's errors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from controller.embedded.apply.errors import ApplyError, Conflicts, WrongConfiguration
from controller.embedded.apply.managers import same_but_times
from controller.embedded.apply.ownership import Ownership
from controller.embedded.apply.paths import path_text
from controller.embedded.apply.shape import Shape
from controller.embedded.apply.tracking import Tracker, field_path
from controller.embedded.metadata import SCHEMA as METADATA
from controller.embedded.patch import same
from controller.embedded.status import ApiError, Cause, bad_request, cause_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.embedded.apply.managers import ManagerId
    from controller.embedded.apply.paths import Path
    from controller.embedded.calls import Call
    from controller.embedded.registry import Registry
    from controller.objects.kind import JsonObject, Kind

_TEXT: Mapping[str, Any] = {"type": "string"}
_NAME_LIMIT = 128


class FieldManagers:
    """Keeps `metadata.managedFields` of the objects of a registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._trackers: dict[tuple[str, str, str], Tracker] = {}

    def track(self, call: Call, old: JsonObject | None, new: JsonObject, now: str) -> None:
        """Put the managedFields of `new` into it: what `call` makes of `old`, or creates."""
        entries = self._tracker(call).updated(old, new, manager_of(call), now)
        new["metadata"].pop("managedFields", None)
        if entries:
            new["metadata"]["managedFields"] = entries

    def apply(self, call: Call, old: JsonObject | None, config: JsonObject, now: str) -> JsonObject:
        """The object after `call` applied `config`. Raises ApiError: 409 for conflicts, 400 or 500 for what does not fit."""
        try:
            return self._tracker(call).applied(old, config, call.query["fieldManager"], now, force=call.force)
        except Conflicts as conflicts:
            raise apply_conflict(conflicts.found) from conflicts
        except WrongConfiguration as error:
            raise bad_request(str(error)) from error
        except ApplyError as error:
            # A real API server takes this for a fault of its own, and clients know it so.
            raise ApiError(500, "", str(error)) from error

    def _tracker(self, call: Call) -> Tracker:
        key = (call.kind.resource, call.kind.version, call.subresource)
        if key not in self._trackers:
            kind = call.kind
            rules = Ownership(shape_of(kind), kind.api_version, _ignored(kind, call.subresource), self._serves(kind))
            blank: JsonObject = {"spec": {}} if not kind.custom and "spec" in kind.schema.get("properties", {}) else {}
            self._trackers[key] = Tracker(rules, kind.kind, call.subresource, blank)
        return self._trackers[key]

    def _serves(self, kind: Kind) -> Any:
        versions = {
            each.api_version for each in self._registry.kinds if (each.group, each.plural) == (kind.group, kind.plural)
        }
        return versions.__contains__


def manager_of(call: Call) -> str:
    """The manager that a call names, or the program that it says to come from."""
    if named := call.query.get("fieldManager"):
        return named
    name = ""
    for letter in call.agent.split("/")[0]:
        if letter.isprintable() and len((name + letter).encode()) <= _NAME_LIMIT:
            name += letter
    return name


def check_manager(name: str) -> Sequence[Cause]:
    """What is wrong with the name of a manager."""
    causes = []
    if len(name.encode()) > _NAME_LIMIT:
        text = f"Too long: may not be more than {_NAME_LIMIT} bytes"
        causes.append(Cause("fieldManager", "FieldValueTooLong", text))
    for index, letter in enumerate(name):
        if not letter.isprintable():
            at = len(name[:index].encode())
            text = f"Invalid value: {json.dumps(name)}: invalid character U+{ord(letter):04X} (at position {at})"
            causes.append(Cause("fieldManager", "FieldValueInvalid", text))
    return causes


def settled(new: JsonObject, old: JsonObject) -> bool:
    """Whether a write changes nothing but the times in managedFields: then it is none."""
    entries = new["metadata"].get("managedFields", []), old["metadata"].get("managedFields", [])
    return same(_unmanaged(new), _unmanaged(old)) and same_but_times(*entries)


def _unmanaged(value: JsonObject) -> JsonObject:
    return value | {"metadata": {name: each for name, each in value["metadata"].items() if name != "managedFields"}}


def shape_of(kind: Kind) -> Shape:
    """The whole object: its type, its metadata and what the schema of the kind says."""
    given = dict(kind.schema) or {"x-kubernetes-preserve-unknown-fields": True}
    properties = {"apiVersion": _TEXT, "kind": _TEXT, **given.get("properties", {}), "metadata": METADATA}
    return Shape(given | {"type": "object", "properties": properties})


def _ignored(kind: Kind, subresource: str) -> frozenset[Path]:
    if subresource:
        return frozenset({field_path("spec")})
    return frozenset({field_path("status")} if kind.status else ())


def apply_conflict(found: Sequence[tuple[ManagerId, Path]]) -> ApiError:
    """409: others have what an apply would change. It lists who and what."""
    causes = [Cause(path_text(path), "FieldManagerConflict", f"conflict with {who}") for who, path in found]
    if len(found) == 1:
        text = f"Apply failed with 1 conflict: conflict with {found[0][0]}: {causes[0].field}"
    else:
        lines: list[str] = []
        for index, (who, path) in enumerate(found):
            if index == 0 or found[index - 1][0] != who:
                lines.append(f"conflicts with {who}:")
            lines.append(f"- {path_text(path)}")
        text = f"Apply failed with {len(found)} conflicts: " + "\n".join(lines)
    return ApiError(409, "Conflict", text, {"causes": cause_list(causes)})
