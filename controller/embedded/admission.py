"""What happens to an object between a request and the store: decode, default, check, stamp. Pure."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from controller.embedded import metadata as meta
from controller.embedded.list_types import repeated_items
from controller.embedded.schema import drop_empty, drop_nulls, fill, prune, validate
from controller.embedded.status import ApiError, Cause, bad_request, conflict, invalid
from controller.objects.kind import Denied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.objects.kind import JsonObject, Kind

_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(slots=True)
class Decoded:
    """An object from a request body, without unknown fields, and what to warn about."""

    value: JsonObject
    warnings: list[str] = field(default_factory=list)


def decode(
    kind: Kind, body: object, validation: str, duplicates: Sequence[str] = (), *, patch: bool = False
) -> Decoded:
    """Check the type of an object and drop what its schema does not know.

    `validation` is the query parameter fieldValidation: Strict refuses unknown and duplicate fields, Warn tells, Ignore
    is silent. Raises ApiError 400, or 422 for the result of a `patch`.
    """
    if not isinstance(body, dict):
        raise meta.cannot_be_handled(kind, "the body must be a JSON object")
    value: JsonObject = body
    _check_type(kind, value)
    value["metadata"] = meta.check_types(kind, value.get("metadata") or {})
    unknown = meta.tidy(value["metadata"]) + prune(kind.schema, value)
    faults = [f'unknown field "{path}"' for path in sorted(unknown)]
    faults += [f'duplicate field "{path}"' for path in sorted(duplicates)]
    if faults and validation == "Strict":
        raise _strict_error(kind, faults, patch=patch)
    _drop_what_is_not_kept(kind, value)
    return Decoded(value, faults if validation == "Warn" else [])


def read_applied(kind: Kind, value: JsonObject) -> JsonObject:
    """The result of an apply, pruned. Nulls stay in custom resources, for validation to find, as on an API server."""
    value["metadata"] = meta.check_types(kind, value.get("metadata") or {})
    meta.tidy(value["metadata"])
    prune(kind.schema, value)
    if not kind.custom:
        drop_empty(kind.schema, value)
    return value


def _drop_what_is_not_kept(kind: Kind, value: JsonObject) -> None:
    if kind.custom:
        drop_nulls(kind.schema, value)
    else:
        drop_empty(kind.schema, value)


def defaulted(kind: Kind, value: JsonObject, old: JsonObject | None) -> JsonObject:
    """The object with the defaults of its schema, and of a core kind. Those of the hook of a custom kind come later.

    On an API server that hook is a webhook: what it puts in belongs to nobody.
    """
    fill(kind.schema, value)
    return value if kind.custom else kind.default(value, old)


def _check_type(kind: Kind, value: JsonObject) -> None:
    api_version, name = value.get("apiVersion", kind.api_version), value.get("kind", kind.kind)
    if api_version != kind.api_version:
        raise bad_request(
            f"the API version in the data ({api_version}) does not match the expected API version ({kind.api_version})"
        )
    if name != kind.kind:
        raise bad_request(
            f"{kind.kind} in version {kind.version!r} cannot be handled as a {kind.kind}: the kind in the data ({name}) "
            f"does not match the expected kind ({kind.kind})"
        )
    value["apiVersion"], value["kind"] = kind.api_version, kind.kind


def _strict_error(kind: Kind, faults: Sequence[str], *, patch: bool) -> ApiError:
    text = f"strict decoding error: {', '.join(faults)}"
    if not patch:
        return bad_request(f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {text}')
    return ApiError(
        422,
        "Invalid",
        f' "" is invalid: patch: Invalid value: {text}',
        {"causes": [{"reason": "FieldValueInvalid", "message": f"Invalid value: {text}", "field": "patch"}]},
    )


def admit_new(kind: Kind, value: JsonObject, namespace: str, now: str) -> JsonObject:
    """A new object as it will be stored: named, stamped, with defaults, checked. Raises ApiError."""
    metadata = value["metadata"]
    _place(kind, metadata, namespace)
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = metadata["generateName"][:248] + _suffix()
    if not metadata.get("name"):
        raise invalid(
            kind, "", [Cause("metadata.name", "FieldValueRequired", "Required value: name or generateName is required")]
        )
    if metadata.get("resourceVersion"):
        raise bad_request("resourceVersion should not be set on objects to be created")
    if kind.custom and kind.status:
        value.pop("status", None)
    for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
        metadata.pop(key, None)
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = now
    if kind.custom:
        metadata["generation"] = 1
    return _check(kind, value, None)


def admit_change(kind: Kind, value: JsonObject, old: JsonObject, subresource: str = "") -> JsonObject:
    """The next state of an object after an update through its main resource or `status`. Raises ApiError.

    Each of the two takes only its own part. `metadata.generation` rises when something outside metadata and status
    changed. The result equals `old` where nothing changed.
    """
    check_precondition(kind, value["metadata"], old)
    if subresource == "status":
        value = _status_only(value, old)
    else:
        _place(kind, value["metadata"], old["metadata"].get("namespace", ""))
        if value["metadata"].get("name", old["metadata"]["name"]) != old["metadata"]["name"]:
            raise bad_request(
                f"the name of the object ({value['metadata']['name']}) does not match the name on the URL "
                f"({old['metadata']['name']})"
            )
        _check_uid(kind, value["metadata"], old["metadata"])
        meta.keep_server_fields(value["metadata"], old["metadata"])
        if kind.status:
            value.pop("status", None)
            if "status" in old:
                value["status"] = old["status"]
    value["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
    value = _check(kind, value, old, subresource)
    if kind.custom and _spec(value) != _spec(old):
        value["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    return value


def check_precondition(kind: Kind, metadata: JsonObject, old: JsonObject) -> None:
    """Raises ApiError 409 if `metadata` names a resourceVersion that the object no longer has."""
    wanted = metadata.get("resourceVersion", "")
    if wanted and wanted != old["metadata"]["resourceVersion"]:
        raise conflict(kind, old["metadata"]["name"])


def _place(kind: Kind, metadata: JsonObject, namespace: str) -> None:
    if not kind.namespaced:
        metadata.pop("namespace", None)
        return
    if metadata.setdefault("namespace", namespace) != namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")


def _check_uid(kind: Kind, metadata: JsonObject, old: JsonObject) -> None:
    if metadata.get("uid", old["uid"]) != old["uid"]:
        raise conflict(
            kind,
            old["name"],
            f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {old['uid']}",
        )


def _status_only(value: JsonObject, old: JsonObject) -> JsonObject:
    result = old | {"metadata": dict(old["metadata"])}
    result["metadata"].pop("managedFields", None)
    if managed := value["metadata"].get("managedFields"):
        result["metadata"]["managedFields"] = managed
    result.pop("status", None)
    if value.get("status") is not None:
        result["status"] = value["status"]
    return result


def _check(kind: Kind, value: JsonObject, old: JsonObject | None, subresource: str = "") -> JsonObject:
    fill(kind.schema, value)
    value = kind.default(value, old)
    metadata = value["metadata"]
    causes = list(meta.validate_metadata(kind, metadata, None if old is None else old["metadata"]))
    causes += _status_faults(kind, value) if subresource == "status" else validate(kind.schema, value)
    # What an object had before is no reason to refuse the next write of it.
    if not causes and (old is None or not any(repeated_items(kind.schema, old))):
        causes += repeated_items(kind.schema, value)
    if causes:
        raise invalid(kind, metadata["name"], causes)
    try:
        kind.validate(value, old)
    except Denied as denied:
        raise ApiError(denied.code, denied.reason, denied.message) from denied
    return value


def _status_faults(kind: Kind, value: JsonObject) -> list[Cause]:
    """What is wrong with the status: a write of it judges nothing else, and its texts name fields inside it."""
    if "status" not in value:
        return []
    faults = validate(kind.schema.get("properties", {}).get("status", {}), value["status"])
    return [replace(fault, field="status" if fault.field == "<nil>" else f"status.{fault.field}") for fault in faults]


def _spec(value: JsonObject) -> JsonObject:
    return {key: item for key, item in value.items() if key not in ("metadata", "status", "apiVersion", "kind")}


def _suffix() -> str:
    return "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(5))
