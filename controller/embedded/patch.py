"""The patch types: JSON merge patch (RFC 7386), JSON patch (RFC 6902) and strategic merge patch. Pure."""

from __future__ import annotations

import copy
from collections import deque
from typing import TYPE_CHECKING, Any

from controller.embedded.status import bad_request, rejected
from controller.objects.kind import EMPTY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.objects.kind import JsonObject


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386: objects are merged, null removes, everything else replaces. Neither argument is changed.

    Beyond the RFC, an API server also drops the nulls of objects inside a list, unless the list replaces an object.
    """
    if not isinstance(target, dict):
        return _without_nulls(patch)
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def _without_nulls(patch: Any) -> Any:
    if isinstance(patch, dict):
        return {key: _without_nulls(value) for key, value in patch.items() if value is not None}
    return [_without_nulls(value) for value in patch] if isinstance(patch, list) else patch


def json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902. Raises ApiError 422 where a test or a path does not fit, 400 where the patch itself is malformed."""
    if not isinstance(operations, list) or not all(isinstance(each, dict) for each in operations):
        raise bad_request("a JSON patch is a list of operations")
    document = {"": copy.deepcopy(target)}
    for operation in operations:
        _apply(document, operation)
    return document[""]


def _apply(document: JsonObject, operation: JsonObject) -> None:
    name, path = operation.get("op"), operation.get("path")
    if not isinstance(path, str) or name not in ("add", "remove", "replace", "move", "copy", "test"):
        raise bad_request(f"JSON patch: cannot read the operation {operation!r}")
    if name in ("add", "replace", "test") and "value" not in operation:
        raise bad_request(f"JSON patch: {name} {path} has no value")
    match name:
        case "test":
            if not same(_get(document, path), operation["value"]):
                raise rejected()
        case "add":
            _add(document, path, operation["value"])
        case "remove":
            _remove(document, path)
        case "replace":
            _get(document, path)
            parent, key = _parent(document, path)
            parent[_index(parent, key, 0)] = operation["value"]
        case _:
            source = operation.get("from")
            if not isinstance(source, str):
                raise bad_request(f"JSON patch: {name} {path} has no from")
            if name == "move" and path.startswith(f"{source}/"):
                raise rejected()
            value = _remove(document, source) if name == "move" else copy.deepcopy(_get(document, source))
            _add(document, path, value)


def _get(document: JsonObject, path: str) -> Any:
    parent, key = _parent(document, path)
    index = _index(parent, key, 0)
    if isinstance(parent, dict) and index not in parent:
        raise rejected()
    return parent[index]


def _add(document: JsonObject, path: str, value: Any) -> None:
    parent, key = _parent(document, path)
    if isinstance(parent, list):
        parent.insert(len(parent) if key == "-" else int(_index(parent, key, 1)), value)
    else:
        parent[key] = value


def _remove(document: JsonObject, path: str) -> Any:
    value = _get(document, path)
    parent, key = _parent(document, path)
    del parent[_index(parent, key, 0)]
    return value


def _parent(document: JsonObject, path: str) -> tuple[Any, str]:
    """The container that the last step of a JSON pointer (RFC 6901) is in, and that step."""
    if path and not path.startswith("/"):
        raise rejected()
    steps = [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")]
    parent: Any = document
    for step in steps[:-1]:
        index = _index(parent, step, 0)
        if isinstance(parent, dict) and index not in parent:
            raise rejected()
        parent = parent[index]
    if not isinstance(parent, dict | list):
        raise rejected()
    return parent, steps[-1]


def _index(parent: Any, step: str, beyond: int) -> Any:
    """The step as a key of `parent`; in a list it must be a position, at most `beyond` past the last."""
    if isinstance(parent, dict):
        return step
    if not isinstance(parent, list) or not step.isdecimal() or (step[0] == "0" and step != "0"):
        raise rejected()
    if int(step) >= len(parent) + beyond:
        raise rejected()
    return int(step)


def same(left: Any, right: Any) -> bool:
    """Equality of JSON values; Python's own holds True and 1 for the same."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def strategic_merge_patch(target: Any, patch: Any, schema: Mapping[str, Any] = EMPTY) -> Any:
    """A merge patch that knows the lists which `schema` merges by a key or as a set, and kubectl's directives.

    The directives are `$patch: replace|delete`, `$retainKeys`, `$deleteFromPrimitiveList/x`; `$setElementOrder/x` sorts.
    """
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    directive = patch.get("$patch")
    if directive == "delete":
        return {}
    result = dict(target) if isinstance(target, dict) and directive != "replace" else {}
    if "$retainKeys" in patch:
        result = {key: value for key, value in result.items() if key in patch["$retainKeys"]}
    for key, value in patch.items():
        if not key.startswith("$"):
            _merge_field(result, key, value, _below(schema, key))
    for key, value in patch.items():
        operation, _, name = key.partition("/")
        if operation == "$deleteFromPrimitiveList":
            result[name] = [item for item in result.get(name) or () if item not in value]
    for key, value in patch.items():
        operation, _, name = key.partition("/")
        if operation == "$setElementOrder" and isinstance(result.get(name), list):
            before = target.get(name) if isinstance(target, dict) else None
            result[name] = _ordered(result[name], value, before or [], _below(schema, name).get(_MERGE_KEY))
    return result


_MERGE_KEY = "x-kubernetes-patch-merge-key"


def _below(schema: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = schema.get("properties", EMPTY).get(key, EMPTY)
    return found


def _merge_field(result: JsonObject, key: str, value: Any, schema: Mapping[str, Any]) -> None:
    merged = isinstance(value, list) and schema.get("x-kubernetes-patch-strategy") == "merge"
    if value is None:
        result.pop(key, None)
    elif merged and _MERGE_KEY in schema:
        result[key] = _merge_list(result.get(key) or [], value, schema)
    elif merged:
        present = result.get(key) or []
        result[key] = _ordered(present + [item for item in value if item not in present], value, present, None)
    else:
        result[key] = strategic_merge_patch(result.get(key), value, schema)


def _merge_list(target: Sequence[JsonObject], patch: Sequence[Any], schema: Mapping[str, Any]) -> list[JsonObject]:
    key, items = schema[_MERGE_KEY], schema.get("items", EMPTY)
    if not all(isinstance(item, dict) for item in patch):
        raise bad_request(f"strategic merge patch: items of a list that is merged by {key} must be objects")
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    merged = list(target)
    for item in patch:
        if key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        at = next((index for index, old in enumerate(merged) if old.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            merged = [old for old in merged if old.get(key) != item[key]]
        elif at is None:
            merged.append(strategic_merge_patch({}, item, items))
        else:
            merged[at] = strategic_merge_patch(merged[at], item, items)
    return _ordered(merged, patch, target, key)


def _ordered(items: list[Any], order: Sequence[Any], before: Sequence[Any], key: str | None) -> list[Any]:
    """Items that the patch names in its order, and among them the others: each before what it stood before.

    `order` is what the patch names, `before` the list as it was.
    """

    def identity(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    wanted, places = [identity(each) for each in order], [identity(each) for each in before]
    named = sorted((item for item in items if identity(item) in wanted), key=lambda item: wanted.index(identity(item)))
    others = deque(item for item in items if identity(item) not in wanted)
    result = []
    for item in named:
        while others and _stood_before(identity(others[0]), identity(item), places):
            result.append(others.popleft())
        result.append(item)
    return [*result, *others]


def _stood_before(left: Any, right: Any, places: Sequence[Any]) -> bool:
    return left in places and right in places and places.index(left) < places.index(right)
