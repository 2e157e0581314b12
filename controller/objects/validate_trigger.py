"""The rules of a Trigger beyond its schema, as Knative's validating webhook has them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from controller.objects.field_errors import FieldError, disallowed, missing, raise_if_any
from controller.objects.field_rules import (
    changed,
    delivery_errors,
    destination_errors,
    reference_errors,
    unknown_fields,
)
from controller.objects.filter_rules import filter_errors
from controller.objects.views import (
    DEPENDENCY_ANNOTATION,
    INJECTION_ANNOTATION,
    annotation,
    annotations_of,
    child,
    name_of,
    string,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.objects.kind import JsonObject

_FIELDS = frozenset({"broker", "brokerRef", "filter", "filters", "subscriber", "delivery"})
_INJECTION_PATH = f"metadata.annotations[{INJECTION_ANNOTATION}]"
_DEPENDENCY_PATH = f"metadata.annotations[{DEPENDENCY_ANNOTATION}]"


def validate_trigger(new: JsonObject, old: JsonObject | None) -> None:
    """Raise Denied with every fault of the Trigger; one that is being deleted is let through."""
    if child(new, "metadata").get("deletionTimestamp"):
        return
    raise_if_any(_errors(new, old))


def filter_faults(trigger: JsonObject) -> Iterator[FieldError]:
    """The faults of the filters; any unknown field of the spec is one, as it may be a misspelt filter.

    The reconciler asks too: in a cluster nobody else may have.
    """
    spec = child(trigger, "spec")
    yield from unknown_fields(spec, _FIELDS, "spec")
    yield from filter_errors(spec)


def _errors(new: JsonObject, old: JsonObject | None) -> Iterator[FieldError]:
    spec = child(new, "spec")
    yield from _broker_errors(spec)
    yield from filter_faults(new)
    yield from destination_errors(child(spec, "subscriber"), "spec.subscriber")
    yield from delivery_errors(spec.get("delivery"), "spec.delivery")
    yield from _dependency_errors(new)
    yield from _injection_errors(new)
    if old is not None:
        before, after = string(child(old, "spec"), "broker"), string(child(new, "spec"), "broker")
        if before != after:
            diff = changed(before, after, "{string}")
            yield FieldError("Immutable fields changed (-old +new)", ("broker", "spec"), diff)


def _broker_errors(spec: JsonObject) -> Iterator[FieldError]:
    broker, ref = spec.get("broker"), spec.get("brokerRef")
    if not broker and ref is None:
        yield missing("spec.broker")
    elif broker and ref is not None:
        yield FieldError("expected exactly one, got both", ("spec.broker", "spec.brokerRef"))
    elif ref is not None:
        yield from reference_errors(child(spec, "brokerRef"), "spec.brokerRef", ("name",))
        if child(spec, "brokerRef").get("namespace"):
            yield disallowed(
                "spec.namespace",
                "only name, apiVersion and kind are supported fields when feature.CrossNamespaceEventLinks is disabled",
            )


def _dependency_errors(trigger: JsonObject) -> Iterator[FieldError]:
    if DEPENDENCY_ANNOTATION not in annotations_of(trigger):
        return
    value = annotation(trigger, DEPENDENCY_ANNOTATION)
    try:
        dependency = json.loads(value)
        fault = "" if isinstance(dependency, dict) else "it is not a JSON object"
    except ValueError as error:
        dependency, fault = {}, str(error)
    if fault:
        message = f'The provided annotation was not a corev1.ObjectReference: "{value}"'
        yield FieldError(message, (_DEPENDENCY_PATH,), fault)
        return
    namespace = name_of(trigger).namespace
    if string(dependency, "namespace") not in ("", namespace):
        message = f'Namespace must be empty or equal to the trigger namespace "{namespace}"'
        yield FieldError(message, (f"{_DEPENDENCY_PATH}.namespace",))
    yield from reference_errors(dependency, _DEPENDENCY_PATH, ("kind", "name", "apiVersion"))


def _injection_errors(trigger: JsonObject) -> Iterator[FieldError]:
    if INJECTION_ANNOTATION not in annotations_of(trigger):
        return
    value = annotation(trigger, INJECTION_ANNOTATION)
    if value not in ("enabled", "disabled"):
        message = f'The provided injection annotation value can only be "enabled" or "disabled", not "{value}"'
        yield FieldError(message, (_INJECTION_PATH,))
    broker = string(child(trigger, "spec"), "broker")
    if broker != "default":
        message = (
            "The provided injection annotation is only used for default broker, "
            f'but non-default broker specified here: "{broker}"'
        )
        yield FieldError(message, (_INJECTION_PATH,))
