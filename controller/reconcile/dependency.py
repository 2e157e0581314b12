"""The condition `DependencyReady`: the object that the annotation `knative.dev/dependency` makes a Trigger wait for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from controller.objects.views import (
    DEPENDENCY_ANNOTATION,
    annotation,
    child,
    condition_of,
    generation_of,
    name_of,
    reference_key,
    string,
)
from controller.reconcile.conditions import FALSE, TRUE, UNKNOWN, Condition

if TYPE_CHECKING:
    from controller.objects.kind import JsonObject
    from controller.reconcile.world import World

_NAME = "DependencyReady"


def dependency_ready(trigger: JsonObject, world: World) -> Condition:
    """True without the annotation, else what the dependency's own `Ready` says, once that is about its present spec."""
    text = annotation(trigger, DEPENDENCY_ANNOTATION)
    if not text:
        return Condition(_NAME)
    try:
        ref = json.loads(text)
    except ValueError as error:
        return Condition(
            _NAME, FALSE, "ReferenceError", f"Unable to unmarshal objectReference from dependency annotation: {error}"
        )
    if not isinstance(ref, dict):
        return Condition(_NAME, FALSE, "ReferenceError", "The dependency annotation is not a JSON object.")
    key = reference_key(ref, name_of(trigger).namespace)
    dependency = world.get(key)
    if dependency is None:
        what = f"{key.kind} {key.namespace}/{key.name}"
        return Condition(_NAME, FALSE, "DependencyDoesNotExist", f"Dependency does not exist: {what} not found")
    return _propagated(dependency)


def _propagated(dependency: JsonObject) -> Condition:
    generation, observed = generation_of(dependency), child(dependency, "status").get("observedGeneration")
    if observed is not None and generation != observed:
        message = (
            f"The dependency's metadata.generation, {generation}, "
            f"is not equal to its status.observedGeneration, {observed}."
        )
        return Condition(_NAME, UNKNOWN, "GenerationNotEqual", message)
    ready = condition_of(dependency, "Ready")
    if ready is None:
        return Condition(_NAME, UNKNOWN, "DependencyNotConfigured", "Dependency has not yet been reconciled.")
    if ready.get("status") == TRUE:
        return Condition(_NAME)
    return Condition(_NAME, string(ready, "status") or UNKNOWN, string(ready, "reason"), string(ready, "message"))
