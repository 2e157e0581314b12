"""What admission fills in on Brokers and Triggers where there is no cluster, as Knative's defaulting webhook does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.objects.views import BROKER_CLASS, BROKER_LABEL, CLASS_ANNOTATION, child, name_of, string

if TYPE_CHECKING:
    from controller.objects.kind import JsonObject


def default_broker(new: JsonObject, old: JsonObject | None) -> JsonObject:  # noqa: ARG001 - the signature of the hook
    """The class, and the namespaces of what the Broker refers to. A class that is set but empty stays: it is an error."""
    annotations = _make(_make(new, "metadata"), "annotations")
    annotations.setdefault(CLASS_ANNOTATION, BROKER_CLASS)
    spec, namespace = _make(new, "spec"), name_of(new).namespace
    _default_namespace(spec.get("config"), namespace)
    _default_namespace(child(spec, "delivery", "deadLetterSink").get("ref"), namespace)
    return new


def default_trigger(new: JsonObject, old: JsonObject | None) -> JsonObject:  # noqa: ARG001 - the signature of the hook
    """The empty filter, the namespaces of what the Trigger refers to, and the label with the Broker's name."""
    spec, namespace = _make(new, "spec"), name_of(new).namespace
    if spec.get("filter") is None:
        spec["filter"] = {}
    _default_namespace(child(spec, "subscriber").get("ref"), namespace)
    _default_namespace(child(spec, "delivery", "deadLetterSink").get("ref"), namespace)
    broker = string(spec, "broker")
    if broker:
        _make(_make(new, "metadata"), "labels")[BROKER_LABEL] = broker
    return new


def _make(parent: JsonObject, name: str) -> JsonObject:
    """The object under this name, made where it is missing; a value of another type is left for validation to refuse."""
    if parent.get(name) is None:
        parent[name] = {}
    value = parent[name]
    return value if isinstance(value, dict) else {}


def _default_namespace(ref: object, namespace: str) -> None:
    if isinstance(ref, dict) and not ref.get("namespace") and namespace:
        ref["namespace"] = namespace
