"""`/openapi/v3`: the schemas, and what kubectl reads of the paths (which patch types, whether fieldValidation is known)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from controller.embedded.metadata import SCHEMA as METADATA

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.embedded.registry import Registry
    from controller.objects.kind import JsonObject, Kind

V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""The only form of `/openapi/v2` that clients read. They ask for it with an @ before the version, which no media type may
have, and the answer has a point there.
"""

_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
PATCH_TYPES = ("application/json-patch+json", "application/merge-patch+json")
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


class OpenApi:
    """The documents, made once when they are first asked for."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._documents: dict[str, bytes] = {}

    def index(self) -> JsonObject:
        paths = {}
        for path, document in self._all().items():
            digest = hashlib.sha256(document).hexdigest()[:32].upper()
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
        return {"paths": paths}

    def v2(self) -> bytes:
        """`/openapi/v2` as protobuf (`openapi.v2.Document`): version and title, and no schemas.

        kubectl asks for it where a manifest has a kind that no v3 document has (`kind: List`), to check fields by itself.
        What it finds no schema for it leaves to the server, which checks every item as it comes.
        """
        info = _field(1, b"Kubernetes") + _field(2, b"v1.32.3")
        return _field(1, b"2.0") + _field(2, info) + _field(8, b"") + _field(9, b"")

    def document(self, path: str) -> bytes | None:
        """The document of `api/v1` or `apis/GROUP/VERSION`; None where there is no such group version."""
        return self._all().get(path)

    def _all(self) -> Mapping[str, bytes]:
        if not self._documents:
            for group, versions in self._registry.groups().items():
                for version, kinds in versions.items():
                    path = f"apis/{group}/{version}" if group else f"api/{version}"
                    self._documents[path] = msgspec.json.encode(_document(self._registry, path, kinds))
        return self._documents


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field of less than 128 bytes."""
    return bytes((number << 3 | 2, len(value))) + value


def _document(registry: Registry, path: str, kinds: Any) -> JsonObject:
    schemas: JsonObject = {_META: METADATA}
    paths: JsonObject = {}
    for kind in kinds:
        schemas[_schema_name(kind)] = _schema(kind)
        schemas[f"{_schema_name(kind)}List"] = _list_schema(kind)
        paths |= _paths(registry, path, kind)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.32.3"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _schema_name(kind: Kind) -> str:
    if not kind.custom:
        return f"io.k8s.api.{kind.group.split('.')[0] or 'core'}.{kind.version}.{kind.kind}"
    return ".".join([*reversed(kind.group.split(".")), kind.version, kind.kind])


def _schema(kind: Kind) -> JsonObject:
    given = dict(kind.schema) or {"x-kubernetes-preserve-unknown-fields": True}
    properties = dict(given.get("properties", {}))
    properties["apiVersion"] = {"type": "string", "description": "The versioned schema of this object."}
    properties["kind"] = {"type": "string", "description": "The REST resource that this object represents."}
    properties["metadata"] = {"allOf": [{"$ref": f"#/components/schemas/{_META}"}], "default": {}}
    return given | {"type": "object", "properties": properties, "x-kubernetes-group-version-kind": [_gvk(kind)]}


def _list_schema(kind: Kind) -> JsonObject:
    items = {"type": "array", "items": {"$ref": f"#/components/schemas/{_schema_name(kind)}"}}
    text = {"type": "string"}
    return {
        "type": "object",
        "required": ["items"],
        "properties": {"apiVersion": text, "kind": text, "metadata": {"type": "object"}, "items": items},
        "x-kubernetes-group-version-kind": [_gvk(kind) | {"kind": f"{kind.kind}List"}],
    }


def _paths(registry: Registry, path: str, kind: Kind) -> JsonObject:
    base = f"/{path}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"/{path}/{kind.plural}"
    verbs = registry.verbs(kind)
    collection = {
        "get": ("list", "list"),
        "post": ("post", "create"),
        "delete": ("deletecollection", "deletecollection"),
    }
    single = {
        "get": ("get", "get"),
        "put": ("put", "update"),
        "patch": ("patch", "patch"),
        "delete": ("delete", "delete"),
    }
    found = {
        where: {
            method: _operation(kind, action, method) for method, (action, verb) in operations.items() if verb in verbs
        }
        for where, operations in ((base, collection), (f"{base}/{{name}}", single))
    }
    return {where: operations for where, operations in found.items() if operations}


def _operation(kind: Kind, action: str, method: str) -> JsonObject:
    reference = {"$ref": f"#/components/schemas/{_schema_name(kind)}"}
    result: JsonObject = {
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _gvk(kind),
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}},
    }
    if method in ("post", "put", "patch"):
        names = ["dryRun", "fieldManager", "fieldValidation", *(["force"] if method == "patch" else [])]
        result["parameters"] = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names]
        types = patch_types(kind) if method == "patch" else ("application/json",)
        schema = {"type": "object"} if method == "patch" else reference
        result["requestBody"] = {"content": {each: {"schema": schema} for each in types}}
    return result


def patch_types(kind: Kind) -> tuple[str, ...]:
    """The patch types that a kind takes: custom resources have no strategic merge patch."""
    return (*PATCH_TYPES, APPLY) if kind.custom else (*PATCH_TYPES, STRATEGIC, APPLY)


def _gvk(kind: Kind) -> JsonObject:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}
