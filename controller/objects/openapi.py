"""Short forms for OpenAPI v3 schemas, and the fragments that several kinds share."""

from __future__ import annotations

from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]

PRESERVE = "x-kubernetes-preserve-unknown-fields"
ATOMIC_MAP: Schema = {"x-kubernetes-map-type": "atomic"}
"""For a map that is one value: who applies a part of it applies all of it."""


def text(description: str = "") -> Schema:
    """A string."""
    return _described({"type": "string"}, description)


def integer(description: str = "", bits: int = 32) -> Schema:
    """An integer of so many bits."""
    return _described({"type": "integer", "format": f"int{bits}"}, description)


def boolean(description: str = "") -> Schema:
    """A truth value."""
    return _described({"type": "boolean"}, description)


def record(
    properties: Schema, description: str = "", *, preserve: bool = False, required: tuple[str, ...] = ()
) -> Schema:
    """An object with these properties; with `preserve` others are kept too, for the admission rules to judge."""
    schema = _described({"type": "object", "properties": properties}, description)
    if required:
        schema["required"] = list(required)
    if preserve:
        schema[PRESERVE] = True
    return schema


def anything(description: str = "") -> Schema:
    """An object of any content."""
    return _described({"type": "object", PRESERVE: True}, description)


def mapping(values: Schema, description: str = "") -> Schema:
    """A map from names to values of one schema."""
    return _described({"type": "object", "additionalProperties": values}, description)


def array(items: Schema, description: str = "", *, keys: tuple[str, ...] = ()) -> Schema:
    """A list; where it has `keys`, its items are merged by them (server-side apply, strategic merge patch by the first)."""
    schema = _described({"type": "array", "items": items}, description)
    if keys:
        schema["x-kubernetes-list-type"] = "map"
        schema["x-kubernetes-list-map-keys"] = list(keys)
        schema["x-kubernetes-patch-strategy"] = "merge"
        schema["x-kubernetes-patch-merge-key"] = keys[0]
    return schema


def int_or_string(description: str = "") -> Schema:
    """A port: its number or its name."""
    return _described({"x-kubernetes-int-or-string": True}, description)


def reference(description: str) -> Schema:
    """A reference to an object, as Knative's KReference."""
    return record(
        {
            "apiVersion": text("Group and version of the object."),
            "kind": text("Kind of the object."),
            "name": text("Name of the object."),
            "namespace": text("Namespace of the object; by default that of the object that refers to it."),
        },
        description,
    )


def destination(description: str) -> Schema:
    """Where events are sent, as Knative's Destination."""
    return record(
        {
            "ref": reference("An object that has an address: a Service, a Knative Service, a Broker."),
            "uri": text("An absolute http or https URL, or one relative to the address of ref."),
            "CACerts": text("PEM certificates to trust beside those of the system."),
            "audience": text("OIDC audience of the destination, where it does not tell its own."),
        },
        description,
    )


def delivery(description: str) -> Schema:
    """How hard a delivery is tried. Unknown fields are kept, so that admission can name them instead of losing them."""
    return record(
        {
            "deadLetterSink": destination("Receives the events that could not be delivered."),
            "retry": integer("Attempts after the first."),
            "backoffPolicy": text("How the time between attempts grows: linear or exponential."),
            "backoffDelay": text("The time before the first retry, an ISO 8601 duration such as PT0.2S."),
            "backoffMax": text("The longest time between two attempts, an ISO 8601 duration."),
            "timeout": text("The time that one attempt may take, an ISO 8601 duration."),
            "retryAfterMax": text(
                "How long a Retry-After header is honoured, an ISO 8601 duration; unset: not at all."
            ),
            "format": text("The content mode events are sent in: binary or json."),
        },
        description,
        preserve=True,
    )


def address(description: str) -> Schema:
    """An address of an Addressable."""
    return record({"name": text(), "url": text(), "CACerts": text(), "audience": text()}, description)


def status(properties: Schema, description: str) -> Schema:
    """A Knative status: conditions, the generation they are about, and more properties."""
    condition = record(
        {
            "type": text("What the condition is about."),
            "status": text("True, False or Unknown."),
            "reason": text("One word for why."),
            "message": text("A sentence for people."),
            "severity": text("Empty where Ready depends on it, else Info or Warning."),
            "lastTransitionTime": text("When the condition last changed."),
        },
        required=("type", "status"),
    )
    shared = {
        "annotations": anything("More about the state."),
        "conditions": array(condition, "What is known of the object, sorted by type."),
        "observedGeneration": integer("The generation that this status is about.", bits=64),
    }
    return record(shared | properties, description)


def whole(spec: Schema, status: Schema, description: str) -> Schema:
    """An object with spec and status, metadata aside."""
    return record({"spec": spec, "status": status}, description)


def _described(schema: Schema, description: str) -> Schema:
    return {"description": description, **schema} if description else schema
