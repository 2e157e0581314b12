"""Reading objects: the few things that every part of the control plane asks of one."""

from __future__ import annotations

from typing import Any

from controller.objects.kind import JsonObject, ObjectKey
from eventing.routing import ObjectName

EVENTING = "eventing.knative.dev"
"""The API group of Broker and Trigger."""

CLASS_ANNOTATION = "eventing.knative.dev/broker.class"
BROKER_CLASS = "Penstock"
"""The Broker class that is ours in a cluster, and the default class without one."""

BROKER_LABEL = "eventing.knative.dev/broker"
DEPENDENCY_ANNOTATION = "knative.dev/dependency"
INJECTION_ANNOTATION = "eventing.knative.dev/injection"


def child(parent: Any, *path: str) -> JsonObject:
    """The object at this path, or {} where there is none: manifests may hold null or text in its place."""
    for name in path:
        parent = parent.get(name) if isinstance(parent, dict) else None
    return parent if isinstance(parent, dict) else {}


def objects_in(parent: JsonObject, name: str) -> list[JsonObject]:
    """The objects of the list under this name; [] where there is none, and without what is no object."""
    items = parent.get(name)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def string(parent: JsonObject, name: str) -> str:
    """The string under this name, or "" where there is none."""
    value = parent.get(name)
    return value if isinstance(value, str) else ""


def annotations_of(obj: JsonObject) -> JsonObject:
    return child(obj, "metadata", "annotations")


def annotation(obj: JsonObject, name: str) -> str:
    """An annotation's value, "" where it is not set."""
    return string(annotations_of(obj), name)


def name_of(obj: JsonObject) -> ObjectName:
    metadata = child(obj, "metadata")
    return ObjectName(string(metadata, "namespace"), string(metadata, "name"))


def uid_of(obj: JsonObject) -> str:
    return string(child(obj, "metadata"), "uid")


def generation_of(obj: JsonObject) -> int:
    return int(child(obj, "metadata").get("generation") or 0)


def group_of(api_version: str) -> str:
    """The API group in an `apiVersion`, "" for the core group."""
    return api_version.rpartition("/")[0]


def key_of(obj: JsonObject) -> ObjectKey:
    namespace, name = name_of(obj)
    return ObjectKey(group_of(string(obj, "apiVersion")), string(obj, "kind"), namespace, name)


def reference_key(ref: JsonObject, namespace: str) -> ObjectKey:
    """The object that a reference names; its namespace defaults to that of the object it stands in."""
    return ObjectKey(
        group_of(string(ref, "apiVersion")),
        string(ref, "kind"),
        string(ref, "namespace") or namespace,
        string(ref, "name"),
    )


def broker_key(trigger: JsonObject) -> ObjectKey:
    """The Broker of a Trigger: `spec.broker`, or the name in `spec.brokerRef`, always in the Trigger's namespace."""
    spec = child(trigger, "spec")
    name = string(spec, "broker") or string(child(spec, "brokerRef"), "name")
    return ObjectKey(EVENTING, "Broker", name_of(trigger).namespace, name)


def broker_class(broker: JsonObject) -> str:
    return annotation(broker, CLASS_ANNOTATION)


def condition_of(obj: JsonObject, condition_type: str) -> JsonObject | None:
    """A condition of the object's status by its type."""
    conditions = objects_in(child(obj, "status"), "conditions")
    return next((condition for condition in conditions if condition.get("type") == condition_type), None)
