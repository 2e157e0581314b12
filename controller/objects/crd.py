"""A kind as the CustomResourceDefinition that makes a cluster know it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from controller.objects.kind import Column, JsonObject, Kind


def custom_resource_definition(kind: Kind) -> JsonObject:
    """The CustomResourceDefinition of a kind, with its one version served and stored."""
    version: JsonObject = {
        "name": kind.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _schema(kind)},
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
    }
    if kind.status:
        version["subresources"] = {"status": {}}
    labels = {"app.kubernetes.io/part-of": "penstock"}
    if "address" in _status_properties(kind):
        labels["duck.knative.dev/addressable"] = "true"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.resource, "labels": labels},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": _names(kind),
            "versions": [version],
        },
    }


def _names(kind: Kind) -> JsonObject:
    names: JsonObject = {"kind": kind.kind, "plural": kind.plural, "singular": kind.singular}
    if kind.categories:
        names["categories"] = list(kind.categories)
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    return names


def _schema(kind: Kind) -> JsonObject:
    head = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
    return {**kind.schema, "properties": head | kind.schema.get("properties", {})}


def _status_properties(kind: Kind) -> Any:
    return kind.schema.get("properties", {}).get("status", {}).get("properties", {})


def _column(column: Column) -> JsonObject:
    fields = {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.json_path,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    }
    return {name: value for name, value in fields.items() if value}
