"""The rules of a Broker beyond its schema, as Knative's validating webhook has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.objects.field_errors import FieldError, missing, raise_if_any
from controller.objects.field_rules import changed, delivery_errors, reference_errors
from controller.objects.views import CLASS_ANNOTATION, broker_class, child

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.objects.kind import JsonObject


def validate_broker(new: JsonObject, old: JsonObject | None) -> None:
    """Raise Denied with every fault of the Broker; one that is being deleted is let through."""
    if child(new, "metadata").get("deletionTimestamp"):
        return
    raise_if_any(_errors(new, old))


def _errors(new: JsonObject, old: JsonObject | None) -> Iterator[FieldError]:
    if not broker_class(new):
        yield missing(CLASS_ANNOTATION)
    spec = child(new, "spec")
    if spec.get("config") is not None:
        yield from reference_errors(child(spec, "config"), "spec.config")
    yield from delivery_errors(spec.get("delivery"), "spec.delivery")
    if old is not None:
        yield from _immutable(new, old)


def _immutable(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    before, after = child(old, "spec", "config"), child(new, "spec", "config")
    details = "".join(
        changed(before.get(field, ""), after.get(field, ""), f"{{v1.BrokerSpec}}.Config.{go_name}")
        for field, go_name in _CONFIG_FIELDS
        if before.get(field, "") != after.get(field, "")
    )
    if details:
        yield FieldError("Immutable fields changed (-old +new)", ("spec",), details)
    if broker_class(old) != broker_class(new):
        diff = changed(broker_class(old), broker_class(new), "{string}")
        yield FieldError("Immutable annotations changed (-old +new)", ("annotations",), diff)


_CONFIG_FIELDS = (("kind", "Kind"), ("namespace", "Namespace"), ("name", "Name"), ("apiVersion", "APIVersion"))
