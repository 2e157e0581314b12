"""Structural schemas: drop what they do not know, fill in defaults, and check what is left.

The messages are those of a real API server, so that kubectl and a reader's memory know them.
"""

from __future__ import annotations

import copy
import re
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from controller.embedded.status import Cause

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from controller.objects.kind import JsonObject

_ROOT = ("apiVersion", "kind", "metadata")


def prune(schema: Mapping[str, Any], value: JsonObject) -> list[str]:
    """Remove the fields that the schema does not name, in place; returns their paths, sorted.

    The type and metadata of an object are no part of its schema. A kind without a schema keeps everything.
    """
    if not schema:
        return []
    return sorted(_prune(schema, value, "", _ROOT))


def _prune(schema: Mapping[str, Any], value: object, path: str, ours: Sequence[str] = ()) -> Iterator[str]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _prune(schema.get("items", {}), item, f"{path}[{index}]")
    elif isinstance(value, dict):
        properties = schema.get("properties", {})
        others = schema.get("additionalProperties")
        keeps = schema.get("x-kubernetes-preserve-unknown-fields") or others is True
        if schema.get("x-kubernetes-embedded-resource"):
            ours = _ROOT
        for key in list(value):
            inner = f"{path}.{key}" if path else key
            if key in properties:
                if key not in ours:
                    yield from _prune(properties[key], value[key], inner)
            elif isinstance(others, dict):
                yield from _prune(others, value[key], inner)
            elif not keeps and key not in ours:
                del value[key]
                yield inner


def drop_nulls(schema: Mapping[str, Any], value: object) -> None:
    """Remove the nulls of fields that the schema knows, where it allows none and has no default, in place."""
    if isinstance(value, list):
        for item in value:
            drop_nulls(schema.get("items", {}), item)
    elif isinstance(value, dict):
        others = schema.get("additionalProperties")
        for key in list(value):
            inner = schema.get("properties", {}).get(key, others)
            if not isinstance(inner, dict):
                continue
            if value[key] is None and not inner.get("nullable") and "default" not in inner:
                del value[key]
            else:
                drop_nulls(inner, value[key])


def drop_empty(schema: Mapping[str, Any], value: object) -> None:
    """Remove what a struct of a core kind does not write, in place: nulls, empty lists, empty maps of free names.

    A null among free names is an empty value there.
    """
    if isinstance(value, list):
        for item in value:
            drop_empty(schema.get("items", {}), item)
    elif isinstance(value, dict):
        others = schema.get("additionalProperties")
        for key in list(value):
            inner = schema.get("properties", {}).get(key)
            if isinstance(inner, dict):
                drop_empty(inner, value[key])
                free = inner.get("type") == "array" or "additionalProperties" in inner
                if value[key] is None or (free and not value[key]):
                    del value[key]
            elif value[key] is None and isinstance(others, dict) and others.get("type") == "string":
                value[key] = ""


def fill(schema: Mapping[str, Any], value: object) -> None:
    """Put in the `default` of each absent field, in place; a null where null is not allowed counts as absent."""
    if isinstance(value, list):
        for item in value:
            fill(schema.get("items", {}), item)
    elif isinstance(value, dict):
        for key, inner in schema.get("properties", {}).items():
            absent = key not in value or (value[key] is None and not inner.get("nullable"))
            if "default" in inner and absent:
                value[key] = copy.deepcopy(inner["default"])
            if key in value:
                fill(inner, value[key])
        others = schema.get("additionalProperties")
        if isinstance(others, dict):
            for key in value.keys() - schema.get("properties", {}).keys():
                fill(others, value[key])


def validate(schema: Mapping[str, Any], value: object) -> list[Cause]:
    """What is wrong with a value; empty where nothing is."""
    return list(_validate(schema, value, ""))


def _validate(schema: Mapping[str, Any], value: object, path: str) -> Iterator[Cause]:
    if value is None and (schema.get("nullable") or not _types(schema)):
        return
    found = type_name(value)
    expected = _types(schema)
    if expected and found not in expected and not (found == "integer" and "number" in expected):
        names = ",".join(expected)
        yield _wrong(path, f'"{found}"', f'must be of type {names}: "{found}"', "FieldValueTypeInvalid")
        return
    yield from _validate_enum(schema, value, path)
    match value:
        case str():
            yield from _validate_string(schema, value, path)
        case bool():
            pass
        case int() | float():
            yield from _validate_number(schema, value, path)
        case list():
            yield from _validate_list(schema, value, path)
        case dict():
            yield from _validate_object(schema, value, path)
    yield from _validate_combined(schema, value, path)


def _validate_enum(schema: Mapping[str, Any], value: object, path: str) -> Iterator[Cause]:
    allowed = schema.get("enum")
    if allowed is not None and not any(type(value) is type(each) and value == each for each in allowed):
        supported = ", ".join(_show(each) for each in allowed)
        text = f"Unsupported value: {_show(value)}: supported values: {supported}"
        yield Cause(path or "<nil>", "FieldValueNotSupported", text)


def _validate_string(schema: Mapping[str, Any], value: str, path: str) -> Iterator[Cause]:
    shown = _show(value)
    if len(value) < schema.get("minLength", 0):
        yield _wrong(path, shown, f"should be at least {schema['minLength']} chars long")
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        yield Cause(path, "FieldValueTooLong", f"Too long: may not be more than {schema['maxLength']} bytes")
    if "pattern" in schema and not _compiled(schema["pattern"]).search(value):
        yield _wrong(path, shown, f"should match '{schema['pattern']}'")
    if schema.get("format") == "date-time" and not _is_date_time(value):
        yield _wrong(path, shown, f"must be of type date-time: {shown}")


def _validate_number(schema: Mapping[str, Any], value: float, path: str) -> Iterator[Cause]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and (value < low or (schema.get("exclusiveMinimum") and value == low)):
        orequal = "" if schema.get("exclusiveMinimum") else " or equal to"
        yield _wrong(path, _show(value), f"should be greater than{orequal} {low}")
    if high is not None and (value > high or (schema.get("exclusiveMaximum") and value == high)):
        orequal = "" if schema.get("exclusiveMaximum") else " or equal to"
        yield _wrong(path, _show(value), f"should be less than{orequal} {high}")
    if "multipleOf" in schema and value % schema["multipleOf"]:
        yield _wrong(path, _show(value), f"should be a multiple of {schema['multipleOf']}")


def _validate_list(schema: Mapping[str, Any], value: list[Any], path: str) -> Iterator[Cause]:
    if len(value) < schema.get("minItems", 0):
        yield _wrong(path, str(len(value)), f"should have at least {schema['minItems']} items")
    if "maxItems" in schema and len(value) > schema["maxItems"]:
        text = f"Too many: {len(value)}: must have at most {schema['maxItems']} items"
        yield Cause(path, "FieldValueTooMany", text)
    for index, item in enumerate(value):
        yield from _validate(schema.get("items", {}), item, f"{path}[{index}]")


def _validate_object(schema: Mapping[str, Any], value: JsonObject, path: str) -> Iterator[Cause]:
    for name in schema.get("required", ()):
        if name not in value:
            yield Cause(_join(path, name), "FieldValueRequired", "Required value")
    if len(value) < schema.get("minProperties", 0):
        yield _wrong(path, str(len(value)), f"should have at least {schema['minProperties']} properties")
    if "maxProperties" in schema and len(value) > schema["maxProperties"]:
        text = f"Too many: {len(value)}: must have at most {schema['maxProperties']} items"
        yield Cause(path, "FieldValueTooMany", text)
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    for key, item in value.items():
        if key in properties:
            yield from _validate(properties[key], item, _join(path, key))
        elif isinstance(others, dict):
            yield from _validate(others, item, _join(path, key))


def _validate_combined(schema: Mapping[str, Any], value: object, path: str) -> Iterator[Cause]:
    for inner in schema.get("allOf", ()):
        yield from _validate(inner, value, path)
    if "anyOf" in schema and not any(not list(_validate(inner, value, path)) for inner in schema["anyOf"]):
        yield _wrong(path, _show(value), "must validate at least one schema (anyOf)")
    if "oneOf" in schema:
        fitting = sum(not list(_validate(inner, value, path)) for inner in schema["oneOf"])
        if fitting != 1:
            which = "Found none valid" if not fitting else f"Found {fitting} valid alternatives"
            yield _wrong(path, _show(value), f"must validate one and only one schema (oneOf). {which}")
    if "not" in schema and not list(_validate(schema["not"], value, path)):
        yield _wrong(path, _show(value), "must not validate the schema (not)")


def type_name(value: object) -> str:
    """The JSON type of a value. A whole float is an integer, as it is for a Go decoder; True is never one."""
    if isinstance(value, float) and value.is_integer():
        return "integer"
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _types(schema: Mapping[str, Any]) -> Sequence[str]:
    if schema.get("x-kubernetes-int-or-string"):
        return ("integer", "string")
    declared = schema.get("type")
    if declared is None:
        return ()
    return (declared,) if isinstance(declared, str) else declared


def _wrong(path: str, shown: str, why: str, reason: str = "FieldValueInvalid") -> Cause:
    where = f"{path} in body" if path else "body"
    return Cause(path or "<nil>", reason, f"Invalid value: {shown}: {where} {why}")


def _show(value: object) -> str:
    """A value as Go prints it in a field error: strings quoted, the rest plain."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return f'"{type_name(value)}"'
    return "null" if value is None else str(value)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    # In RE2 `$` is the very end; in Python it also fits before a last newline.
    return re.compile(pattern.removesuffix("$") + r"\Z" if pattern.endswith("$") and pattern[-2:] != r"\$" else pattern)


def _is_date_time(value: str) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
