"""kubectl's way from client-side to server-side apply: the annotation in which it keeps what it applied last."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from controller.embedded.apply.errors import ApplyError
from controller.embedded.apply.typed import check, compare, field_set

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.embedded.apply.errors import Conflicts
    from controller.embedded.apply.managers import ManagerId
    from controller.embedded.apply.paths import FieldSet, Path
    from controller.embedded.apply.shape import Shape
    from controller.objects.kind import JsonObject

KUBECTL = "kubectl"
ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
_ANNOTATIONS_LIMIT = 256 << 10


def not_allowed(
    shape: Shape, live: JsonObject, conflicts: Conflicts, api_version: str
) -> Sequence[tuple[ManagerId, Path]]:
    """The conflicts about fields that kubectl did not apply itself, or that were changed since."""
    text = _annotations(live).get(ANNOTATION)
    own = _own_fields(shape, live, text, api_version) if text else None
    return conflicts.found if own is None else [each for each in conflicts.found if each[1] not in own]


def _own_fields(shape: Shape, live: JsonObject, text: str, api_version: str) -> FieldSet | None:
    """The fields of the annotation that still have its values; None where it cannot be read."""
    try:
        last = json.loads(text)
        if not isinstance(last, dict) or last.get("apiVersion") != api_version:
            return None
        check(shape, live)
        check(shape, last)
        changes = compare(shape, last, live)
    except (ValueError, ApplyError):
        return None
    return field_set(shape, last) - changes.written - changes.removed


def rewritten(value: JsonObject, config: JsonObject) -> JsonObject:
    """The object with the annotation, where it has one, made to say what was applied now."""
    annotations = _annotations(value)
    if not annotations.get(ANNOTATION):
        return value
    annotations = annotations | {ANNOTATION: _text(config)}
    if sum(len(name.encode()) + len(each.encode()) for name, each in annotations.items()) > _ANNOTATIONS_LIMIT:
        del annotations[ANNOTATION]
    return value | {"metadata": value["metadata"] | {"annotations": annotations}}


def _text(config: JsonObject) -> str:
    """A configuration as the API server writes it into the annotation: one line of JSON, keys sorted."""
    metadata = dict(config.get("metadata") or {})
    if isinstance(metadata.get("annotations"), dict):
        metadata["annotations"] = {name: each for name, each in metadata["annotations"].items() if name != ANNOTATION}
    text = json.dumps(config | {"metadata": metadata}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026") + "\n"


def _annotations(value: JsonObject) -> dict[str, str]:
    found: dict[str, str] = (value.get("metadata") or {}).get("annotations") or {}
    return found
