"""A request to a resource, read: what it is about, its options, its body, and the form that its answer shall have."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from controller.embedded import protobuf, status
from controller.embedded.field_managers import check_manager
from controller.embedded.openapi import APPLY
from controller.embedded.status import ApiError, Cause, bad_request, invalid_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.objects.kind import JsonObject, Kind

JSON = "application/json"
_ACCEPTED = (JSON, f"{JSON};as=Table;v=v1;g=meta.k8s.io", f"{JSON};as=PartialObjectMetadata;v=v1;g=meta.k8s.io")
_VALIDATIONS = ("Ignore", "Warn", "Strict")


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `name` is "" for a collection, `namespace` "" for all namespaces or cluster scope."""

    method: str
    kind: Kind
    namespace: str
    name: str
    subresource: str
    query: Mapping[str, str]
    accept: str
    content_type: str
    body: bytes
    agent: str = ""

    @property
    def dry_run(self) -> bool:
        return bool(self.query.get("dryRun"))

    @property
    def validation(self) -> str:
        return self.query.get("fieldValidation") or "Warn"

    @property
    def include(self) -> str:
        return self.query.get("includeObject") or "Metadata"

    @property
    def applies(self) -> bool:
        return self.method == "PATCH" and self.content_type == APPLY

    @property
    def force(self) -> bool:
        return self.query.get("force", "false").lower() not in ("false", "0")

    def flag(self, name: str) -> bool:
        return self.query.get(name, "").lower() in ("true", "1")

    def number(self, name: str) -> int:
        """A query parameter that is a whole number, 0 where it is absent. Raises ApiError 400."""
        text = self.query.get(name) or "0"
        if not text.isdecimal():
            raise bad_request(f"{name}: {text!r} is not a whole number")
        return int(text)

    def check_options(self, options: str) -> None:
        """Raises ApiError 422 for a dryRun or fieldValidation that does not exist, or a fieldManager that cannot be.

        An apply must name its fieldManager; only an apply can `force`.
        """
        causes = []
        manager = self.query.get("fieldManager", "")
        if self.applies and not manager:
            text = "Required value: is required for apply patch"
            causes.append(Cause("fieldManager", "FieldValueRequired", text))
        if not self.applies and "force" in self.query:
            text = "Forbidden: may not be specified for non-apply patch"
            causes.append(Cause("force", "FieldValueForbidden", text))
        causes += check_manager(manager)
        if (dry_run := self.query.get("dryRun", "")) not in ("", "All"):
            text = f'Unsupported value: "{dry_run}": supported values: "All"'
            causes.append(Cause("dryRun", "FieldValueNotSupported", text))
        if self.validation not in _VALIDATIONS:
            supported = ", ".join(f'"{each}"' for each in _VALIDATIONS)
            text = f'Unsupported value: "{self.validation}": supported values: {supported}'
            causes.append(Cause("fieldValidation", "FieldValueNotSupported", text))
        if causes:
            raise invalid_options(options, causes)


def form_of(accept: str) -> str:
    """`object`, `Table`, `PartialObjectMetadata` or `PartialObjectMetadataList`: the first alternative we can make.

    Raises ApiError 406 where there is none, as for protobuf alone.
    """
    if not accept.strip():
        return "object"
    for alternative in accept.split(","):
        media, *rest = (part.strip() for part in alternative.split(";"))
        parameters = dict(part.split("=", 1) for part in rest if "=" in part)
        if media not in (JSON, "application/*", "*/*"):
            continue
        wanted = parameters.get("as", "")
        if not wanted:
            return "object"
        known = wanted in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")
        if known and parameters.get("v") == "v1" and parameters.get("g") == "meta.k8s.io":
            return wanted
    raise status.not_acceptable(_ACCEPTED)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A body as JSON, and the fields that stood in it twice (the last one counts)."""

    value: Any
    duplicates: Sequence[str] = ()


def read_object(body: bytes, content_type: str) -> Parsed:
    """The object in the body of a create or update. Raises ApiError 400, or 415 for a form that is not read."""
    if content_type in ("", JSON):
        return read_json(body)
    if content_type == protobuf.MEDIA_TYPE and (value := protobuf.read_protobuf(body)) is not None:
        return Parsed(value)
    raise status.unsupported_media_type((JSON,))


def read_json(body: bytes) -> Parsed:
    """Raises ApiError 400 for a body that is no JSON."""
    twice: list[tuple[str, JsonObject]] = []

    def pairs(items: list[tuple[str, Any]]) -> JsonObject:
        found = dict(items)
        if len(found) < len(items):
            seen: set[str] = set()
            twice.extend((key, found) for key, _ in items if key in seen or seen.add(key))  # type: ignore[func-returns-value] # add returns None on purpose
        return found

    try:
        value = json.loads(
            body, object_pairs_hook=pairs, parse_constant=_no_constant, parse_int=_integer, parse_float=_float
        )
        # Half a surrogate pair can be read but not written: it is refused here, not when it is to be stored.
        msgspec.json.encode(value)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"the object provided is unrecognized (must be of type JSON): {error}") from error
    return Parsed(value, [_path_to(value, found, key) for key, found in twice])


def _integer(text: str) -> int | float:
    """As Go reads a number: one that does not fit 64 bits is a float."""
    value = int(text)
    return value if -(1 << 63) <= value < 1 << 63 else _float(text)


def _float(text: str) -> float:
    """As Go writes a number again: a whole one has no decimal point."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is out of range")
    return int(value) if value.is_integer() and abs(value) < 1 << 53 else value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _path_to(value: Any, found: JsonObject, key: str, path: str = "") -> str:
    """The path of `key` in the very object `found`, which stands somewhere in `value`."""
    if value is found:
        return f"{path}.{key}" if path else key
    inner: Sequence[tuple[str, Any]] = ()
    if isinstance(value, dict):
        inner = [(f"{path}.{name}" if path else name, each) for name, each in value.items()]
    elif isinstance(value, list):
        inner = [(f"{path}[{index}]", each) for index, each in enumerate(value)]
    return next((text for where, each in inner if (text := _path_to(each, found, key, where))), "")


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """How to delete: what becomes of dependents, and what the object must still be."""

    policy: str = "Background"
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False

    def check(self, kind: Kind, value: JsonObject) -> None:
        """Raises ApiError 409 if a precondition does not hold."""
        metadata = value["metadata"]
        if self.uid and self.uid != metadata["uid"]:
            why = f"Precondition failed: UID in precondition: {self.uid}, UID in object meta: {metadata['uid']}"
            raise status.conflict(kind, metadata["name"], why)
        if self.resource_version and self.resource_version != metadata["resourceVersion"]:
            why = (
                f"Precondition failed: ResourceVersion in precondition: {self.resource_version}, ResourceVersion in "
                f"object meta: {metadata['resourceVersion']}"
            )
            raise status.conflict(kind, metadata["name"], why)


def delete_options(call: Call) -> DeleteOptions:
    """From the body, a DeleteOptions of any group, or else from the query. Raises ApiError 400 or 422."""
    given: Any = read_json(call.body).value if call.body.strip() else {}
    if not isinstance(given, dict) or given.get("kind", "DeleteOptions") != "DeleteOptions":
        raise bad_request("the body of a DELETE must be DeleteOptions")
    policy = given.get("propagationPolicy") or call.query.get("propagationPolicy")
    orphan = given.get("orphanDependents")
    if policy is None:
        policy = "Orphan" if orphan is True or call.flag("orphanDependents") else "Background"
    if policy not in ("Background", "Foreground", "Orphan"):
        text = f'Unsupported value: "{policy}": supported values: "Background", "Foreground", "Orphan"'
        raise invalid_options("DeleteOptions", [Cause("propagationPolicy", "FieldValueNotSupported", text)])
    preconditions = given.get("preconditions") or {}
    if not isinstance(preconditions, dict):
        raise bad_request("preconditions must be an object")
    return DeleteOptions(
        policy,
        str(preconditions.get("uid") or ""),
        str(preconditions.get("resourceVersion") or ""),
        bool(given.get("dryRun")) or call.dry_run,
    )


def warned(error: ApiError, warnings: Sequence[str]) -> ApiError:
    """An error that also carries what was to be warned about."""
    error.warnings += warnings
    return error
