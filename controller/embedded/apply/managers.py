"""`metadata.managedFields`: who wrote or applied which fields, and when."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from controller.embedded.apply.paths import decode_fields, encode_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.embedded.apply.paths import FieldSet
    from controller.objects.kind import JsonObject

Operation = Literal["Apply", "Update"]

FIELDS_TYPE = "FieldsV1"
UPDATERS_LIMIT = 10
"""How many managers of updates are kept apart; the oldest beyond it become one, `ancient-changes`."""

_ANCIENT = "ancient-changes"


class ManagerId(NamedTuple):
    """Who: the name, how it writes, through which version (of updates only) and which subresource."""

    name: str
    operation: Operation
    api_version: str = ""
    subresource: str = ""

    def __str__(self) -> str:
        """As messages about conflicts name it."""
        text = f'"{self.name}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return f"{text} using {self.api_version}" if self.operation == "Update" else text


def applier(name: str, subresource: str) -> ManagerId:
    return ManagerId(name or "unknown", "Apply", "", subresource)


def updater(name: str, api_version: str, subresource: str) -> ManagerId:
    return ManagerId(name or "unknown", "Update", api_version, subresource)


@dataclass(frozen=True, slots=True)
class Owned:
    """The fields of a manager, by their names in one version of the kind."""

    fields: FieldSet
    api_version: str


@dataclass(slots=True)
class Managed:
    """The managers of one object, and when each last changed what it has (RFC 3339)."""

    owned: dict[ManagerId, Owned] = field(default_factory=dict)
    times: dict[ManagerId, str] = field(default_factory=dict)

    def copy(self) -> Managed:
        return Managed(dict(self.owned), dict(self.times))


def decode_managed(entries: Any) -> Managed:
    """From managedFields. Raises ValueError where an entry cannot be read."""
    managed = Managed()
    if entries is None:
        return managed
    if not isinstance(entries, list):
        raise ValueError("managedFields must be a list")  # noqa: TRY004 - a fault of the request, not of the caller
    for entry in entries:
        identity = _identity(entry)
        fields = entry.get("fieldsV1")
        managed.owned[identity] = Owned(decode_fields({} if fields is None else fields), entry["apiVersion"])
        if entry.get("time"):
            managed.times[identity] = entry["time"]
    return managed


def _identity(entry: Any) -> ManagerId:
    if not isinstance(entry, dict) or entry.get("operation") not in ("Apply", "Update"):
        raise ValueError("operation must be `Apply` or `Update`")
    if not entry.get("apiVersion"):
        raise ValueError("apiVersion must not be empty")
    if entry.get("fieldsType") != FIELDS_TYPE:
        raise ValueError(f"fieldsType must be {FIELDS_TYPE}")
    operation: Operation = entry["operation"]
    version = entry["apiVersion"] if operation == "Update" else ""
    return ManagerId(entry.get("manager") or "", operation, version, entry.get("subresource") or "")


def encode_managed(managed: Managed) -> list[JsonObject]:
    """As managedFields, in the order of an API server: appliers first, then by time, name, version, subresource."""
    entries = [_entry(identity, owned, managed.times.get(identity)) for identity, owned in managed.owned.items()]
    return sorted(entries, key=_place)


def _entry(identity: ManagerId, owned: Owned, time: str | None) -> JsonObject:
    entry = {
        "manager": identity.name,
        "operation": identity.operation,
        "apiVersion": owned.api_version,
        "time": time,
        "fieldsType": FIELDS_TYPE,
        "fieldsV1": encode_fields(owned.fields),
        "subresource": identity.subresource,
    }
    return {key: value for key, value in entry.items() if value is not None and (value != "" or key == "fieldsV1")}


def _place(entry: JsonObject) -> tuple[Any, ...]:
    names = (entry.get("manager", ""), entry["apiVersion"], entry.get("subresource", ""))
    return entry["operation"], seconds_of(entry.get("time")), *names


def seconds_of(time: str | None) -> int:
    """A time in whole seconds since 1970, 0 for none or one that cannot be read."""
    try:
        moment = datetime.fromisoformat(time or "")
    except ValueError:
        return 0
    return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp())


def is_reset(entries: Any) -> bool:
    """Whether a request asks to forget all managers: a list with one empty entry."""
    return bool(entries == [{}])


def same_but_times(left: Sequence[JsonObject], right: Sequence[JsonObject]) -> bool:
    """Whether two managedFields differ at most in when."""
    return [_timeless(entry) for entry in left] == [_timeless(entry) for entry in right]


def _timeless(entry: JsonObject) -> JsonObject:
    return {key: value for key, value in entry.items() if key != "time"}


def limit_updaters(managed: Managed) -> Managed:
    """Unite the oldest managers of updates, per version, until no more than the limit are left."""
    updaters = [identity for identity in managed.owned if identity.operation == "Update"]
    over = len(updaters) - UPDATERS_LIMIT
    if over <= 0:
        return managed
    result = managed.copy()
    first: dict[str, ManagerId] = {}
    for identity in sorted(updaters, key=lambda each: (seconds_of(managed.times.get(each)), each)):
        if over <= 0:
            break
        version = result.owned[identity].api_version
        if version not in first:
            first[version] = identity
            continue
        bucket = ManagerId(_ANCIENT, "Update", version)
        if bucket not in result.owned:
            result.owned[bucket] = result.owned.pop(first[version])
        fields = result.owned.pop(identity).fields | result.owned[bucket].fields
        result.owned[bucket] = Owned(fields, version)
        if identity in result.times:
            result.times[bucket] = result.times[identity]
        over -= 1
    return result
