"""ObjectMeta: what a client may write in it, and what the server alone decides."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from controller.embedded.schema import validate
from controller.embedded.status import Cause, bad_request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from controller.objects.kind import JsonObject, Kind

_STRING: Mapping[str, Any] = {"type": "string"}
_STRINGS: Mapping[str, Any] = {"type": "object", "additionalProperties": _STRING}
_BOOLEAN: Mapping[str, Any] = {"type": "boolean"}
_INTEGER: Mapping[str, Any] = {"type": "integer", "format": "int64"}
_TIME: Mapping[str, Any] = {"type": "string", "format": "date-time"}

SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "ObjectMeta is metadata that all persisted resources must have.",
    "properties": {
        "annotations": _STRINGS,
        "creationTimestamp": _TIME,
        "deletionGracePeriodSeconds": _INTEGER,
        "deletionTimestamp": _TIME,
        "finalizers": {
            "type": "array",
            "items": _STRING,
            "x-kubernetes-list-type": "set",
            "x-kubernetes-patch-strategy": "merge",
        },
        "generateName": _STRING,
        "generation": _INTEGER,
        "labels": _STRINGS,
        "managedFields": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "apiVersion": _STRING,
                    "fieldsType": _STRING,
                    "fieldsV1": {"type": "object"},
                    "manager": _STRING,
                    "operation": _STRING,
                    "subresource": _STRING,
                    "time": _TIME,
                },
            },
            "x-kubernetes-list-type": "atomic",
        },
        "name": _STRING,
        "namespace": _STRING,
        "ownerReferences": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["apiVersion", "kind", "name", "uid"],
                "properties": {
                    "apiVersion": _STRING,
                    "blockOwnerDeletion": _BOOLEAN,
                    "controller": _BOOLEAN,
                    "kind": _STRING,
                    "name": _STRING,
                    "uid": _STRING,
                },
                "x-kubernetes-map-type": "atomic",
            },
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["uid"],
            "x-kubernetes-patch-merge-key": "uid",
            "x-kubernetes-patch-strategy": "merge",
        },
        "resourceVersion": _STRING,
        "selfLink": _STRING,
        "uid": _STRING,
    },
}

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
_UNQUALIFIED = frozenset({FOREGROUND, ORPHAN, "kubernetes"})
_SERVER_OWNED = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "namespace",
    "name",
    "generateName",
)
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_PART = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_ANNOTATIONS_LIMIT = 256 << 10

_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_DNS_1035_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_KEY_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def tidy(metadata: JsonObject) -> list[str]:
    """Drop nulls, empty maps and lists, and unknown fields, in place; returns the paths of the unknown ones.

    Every Go client sends `creationTimestamp: null`. Raises ApiError 400 for a value of the wrong type.
    """
    unknown = sorted(f"metadata.{key}" for key in metadata.keys() - SCHEMA["properties"].keys())
    for key in list(metadata):
        if key not in SCHEMA["properties"] or metadata[key] in (None, {}, [], ""):
            del metadata[key]
    metadata.pop("selfLink", None)
    return unknown


def keep_server_fields(metadata: JsonObject, old: JsonObject) -> None:
    """On an update, put back what only the server writes."""
    for key in _SERVER_OWNED:
        if key in old:
            metadata[key] = old[key]
        else:
            metadata.pop(key, None)


def validate_metadata(kind: Kind, metadata: JsonObject, old: JsonObject | None) -> Iterator[Cause]:
    """What is wrong with names, labels, annotations, finalizers and owners; `old` is None on create."""
    if old is None:
        yield from _validate_name(kind, metadata["name"])
    else:
        yield from _validate_change(metadata, old)
    yield from _validate_labels(metadata.get("labels", {}))
    yield from _validate_annotations(metadata.get("annotations", {}))
    owners = metadata.get("ownerReferences", [])
    for index, owner in enumerate(owners):
        for key in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(key):
                yield Cause(f"metadata.ownerReferences[{index}].{key}", "FieldValueInvalid", _empty(key))
    if sum(bool(owner.get("controller")) for owner in owners) > 1:
        text = "Invalid value: only one reference can have Controller set to true"
        yield Cause("metadata.ownerReferences", "FieldValueInvalid", text)


def finalizer_warnings(metadata: JsonObject) -> list[str]:
    return [
        f'metadata.finalizers: "{name}": prefer a domain-qualified finalizer name including a path (/) to avoid '
        "accidental conflicts with other finalizer writers"
        for name in metadata.get("finalizers", ())
        if "/" not in name and name not in _UNQUALIFIED
    ]


def check_types(kind: Kind, metadata: object) -> JsonObject:
    """The metadata of a request, if it is an object with the right types. Raises ApiError 400."""
    if not isinstance(metadata, dict):
        raise cannot_be_handled(kind, "metadata must be an object")
    given = {key: value for key, value in metadata.items() if value is not None}
    for cause in validate({"properties": {"metadata": SCHEMA}}, {"metadata": given}):
        if cause.reason == "FieldValueTypeInvalid" or cause.field.endswith("Timestamp"):
            raise cannot_be_handled(kind, str(cause))
    return metadata


def cannot_be_handled(kind: Kind, why: str) -> Exception:
    return bad_request(f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {why}')


def _validate_name(kind: Kind, name: str) -> Iterator[Cause]:
    where = "metadata.name"
    limit, pattern, rule = 253, _SUBDOMAIN, _SUBDOMAIN_RULE
    if not kind.custom and kind.kind == "Namespace":
        limit, pattern, rule = 63, _LABEL_NAME, _LABEL_RULE
    if not kind.custom and kind.kind == "Service":
        limit, pattern, rule = 63, _DNS_1035, _DNS_1035_RULE
    if len(name) > limit:
        yield Cause(where, "FieldValueInvalid", f'Invalid value: "{name}": must be no more than {limit} characters')
    elif not pattern.fullmatch(name):
        yield Cause(where, "FieldValueInvalid", f'Invalid value: "{name}": {rule}')


def _validate_change(metadata: JsonObject, old: JsonObject) -> Iterator[Cause]:
    if old.get("deletionTimestamp"):
        added = [name for name in metadata.get("finalizers", ()) if name not in old.get("finalizers", ())]
        if added:
            listed = ", ".join(f'"{name}"' for name in added)
            text = f"Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {listed}"
            yield Cause("metadata.finalizers", "FieldValueForbidden", text)


def _validate_labels(labels: JsonObject) -> Iterator[Cause]:
    for key, value in labels.items():
        yield from _validate_key("metadata.labels", key)
        if len(value) > 63:
            yield _bad("metadata.labels", value, "must be no more than 63 characters")
        elif value and not _PART.fullmatch(value):
            yield _bad("metadata.labels", value, _VALUE_RULE)


def _validate_annotations(annotations: JsonObject) -> Iterator[Cause]:
    for key in annotations:
        yield from _validate_key("metadata.annotations", key.lower())
    if sum(len(key) + len(value) for key, value in annotations.items()) > _ANNOTATIONS_LIMIT:
        text = f"Too long: may not be more than {_ANNOTATIONS_LIMIT} bytes"
        yield Cause("metadata.annotations", "FieldValueTooLong", text)


def _validate_key(where: str, key: str) -> Iterator[Cause]:
    prefix, slash, name = key.rpartition("/")
    if slash and (not _SUBDOMAIN.fullmatch(prefix) or len(prefix) > 253):
        yield _bad(where, key, f"prefix part {_SUBDOMAIN_RULE}")
    if not _PART.fullmatch(name) or len(name) > 63:
        yield _bad(where, key, _KEY_RULE)


def _bad(where: str, value: str, why: str) -> Cause:
    return Cause(where, "FieldValueInvalid", f'Invalid value: "{value}": {why}')


def _empty(key: str) -> str:
    return f'Invalid value: "": {"version" if key == "apiVersion" else key} must not be empty'
