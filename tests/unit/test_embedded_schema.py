"""Structural schemas in the embedded Kubernetes API: prune, fill in, validate."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.embedded.schema import fill, prune, validate

TEXT = {"type": "string"}
SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "name": TEXT,
                "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": TEXT}}},
                "list": {"type": "array", "items": {"type": "object", "properties": {"a": TEXT}}},
                "open": {
                    "type": "object",
                    "properties": {"a": {"type": "object"}},
                    "x-kubernetes-preserve-unknown-fields": True,
                },
                "closed": {"type": "object"},
            },
        },
    },
}


def test_prune_removes_what_is_not_named() -> None:
    """By path, sorted; what stands in open objects stays, except inside their typed fields."""
    value: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Toy",
        "metadata": {"whatever": 1},
        "extra": 1,
        "spec": {
            "name": "x",
            "z": 1,
            "map": {"k": {"a": "1", "b": 2}},
            "list": [{"a": "1"}, {"c": 3}],
            "open": {"free": {"a": 1}, "a": {"b": 1}},
            "closed": {"y": 1},
        },
    }
    paths = ["extra", "spec.closed.y", "spec.list[1].c", "spec.map.k.b", "spec.open.a.b", "spec.z"]
    assert prune(SCHEMA, value) == paths
    assert value["spec"] == {
        "name": "x",
        "map": {"k": {"a": "1"}},
        "list": [{"a": "1"}, {}],
        "open": {"free": {"a": 1}, "a": {}},
        "closed": {},
    }
    assert prune(SCHEMA, value) == []
    assert prune({}, {"anything": 1}) == []


def test_fill_puts_in_defaults() -> None:
    """Where a field is absent, or null where null is not allowed; in lists and maps too; never the same object twice."""
    item = {"type": "object", "properties": {"size": {"type": "integer", "default": 1}}}
    schema = {
        "properties": {
            "list": {"type": "array", "items": item},
            "map": {"type": "object", "additionalProperties": item},
            "box": {"type": "object", "default": {"a": []}},
            "none": {"type": "string", "nullable": True, "default": "x"},
        }
    }
    first: dict[str, Any] = {"list": [{}, {"size": 2}], "map": {"k": {"size": None}}, "none": None}
    second: dict[str, Any] = {}
    fill(schema, first)
    fill(schema, second)
    first["box"]["a"].append(1)
    assert first["list"] == [{"size": 1}, {"size": 2}]
    assert first["map"] == {"k": {"size": 1}}
    assert first["none"] is None
    assert second == {"box": {"a": []}, "none": "x"}


@pytest.mark.parametrize(
    ("schema", "value", "faults"),
    [
        ({"type": "string"}, "x", []),
        ({"type": "integer"}, 3.0, []),
        ({"type": "integer"}, True, ['Invalid value: "boolean": f in body must be of type integer: "boolean"']),
        ({"type": "number"}, 3, []),
        ({"type": "integer"}, 3.5, ['Invalid value: "number": f in body must be of type integer: "number"']),
        ({"type": "boolean"}, 1, ['Invalid value: "integer": f in body must be of type boolean: "integer"']),
        ({"type": "string"}, None, ['Invalid value: "null": f in body must be of type string: "null"']),
        ({"type": "string", "nullable": True}, None, []),
        ({"x-kubernetes-int-or-string": True}, "80%", []),
        ({"x-kubernetes-int-or-string": True}, 80, []),
        (
            {"x-kubernetes-int-or-string": True},
            [],
            ['Invalid value: "array": f in body must be of type integer,string: "array"'],
        ),
        ({"enum": ["a", "b"]}, "c", ['Unsupported value: "c": supported values: "a", "b"']),
        ({"enum": [1]}, True, ["Unsupported value: true: supported values: 1"]),
        ({"pattern": "^a+$"}, "ab", ["Invalid value: \"ab\": f in body should match '^a+$'"]),
        ({"pattern": "^a+$"}, "a\n", ["Invalid value: \"a\n\": f in body should match '^a+$'"]),
        ({"minLength": 2}, "a", ['Invalid value: "a": f in body should be at least 2 chars long']),
        ({"maxLength": 1}, "ab", ["Too long: may not be more than 1 bytes"]),
        ({"minimum": 1}, 0, ["Invalid value: 0: f in body should be greater than or equal to 1"]),
        ({"minimum": 1, "exclusiveMinimum": True}, 1, ["Invalid value: 1: f in body should be greater than 1"]),
        ({"maximum": 1}, 2, ["Invalid value: 2: f in body should be less than or equal to 1"]),
        ({"multipleOf": 5}, 7, ["Invalid value: 7: f in body should be a multiple of 5"]),
        ({"minItems": 1}, [], ["Invalid value: 0: f in body should have at least 1 items"]),
        ({"maxItems": 1}, [1, 2], ["Too many: 2: must have at most 1 items"]),
        ({"minProperties": 1}, {}, ["Invalid value: 0: f in body should have at least 1 properties"]),
        ({"maxProperties": 0}, {"a": 1}, ["Too many: 1: must have at most 0 items"]),
        ({"required": ["a", "b"]}, {"a": 1}, ["Required value"]),
        ({"format": "date-time"}, "2026-01-01T00:00:00Z", []),
        ({"format": "date-time"}, "soon", ['Invalid value: "soon": f in body must be of type date-time: "soon"']),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, 1, []),
        (
            {"anyOf": [{"required": ["a"]}]},
            {},
            ['Invalid value: "object": f in body must validate at least one schema (anyOf)'],
        ),
        (
            {"oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
            {"a": 1, "b": 1},
            [
                'Invalid value: "object": f in body must validate one and only one schema (oneOf). Found 2 valid alternatives'
            ],
        ),
        (
            {"not": {"required": ["a"]}},
            {"a": 1},
            ['Invalid value: "object": f in body must not validate the schema (not)'],
        ),
        (
            {"allOf": [{"minimum": 1}, {"maximum": 3}]},
            4,
            ["Invalid value: 4: f in body should be less than or equal to 3"],
        ),
    ],
)
def test_validate(schema: Any, value: Any, faults: list[str]) -> None:
    """The words of a real API server."""
    assert [cause.message for cause in validate({"properties": {"f": schema}}, {"f": value})] == faults


@pytest.mark.parametrize(
    ("value", "field", "reason"),
    [
        ({"a": [{"b": 1}]}, "a[0].b", "FieldValueTypeInvalid"),
        ({"m": {"x": 1}}, "m.x", "FieldValueTypeInvalid"),
        ({"a": [{}]}, "a[0].b", "FieldValueRequired"),
    ],
)
def test_validate_names_the_field(value: Any, field: str, reason: str) -> None:
    """Lists by index, maps by key."""
    inner = {"type": "object", "required": ["b"], "properties": {"b": TEXT}}
    schema = {"properties": {"a": {"type": "array", "items": inner}, "m": {"additionalProperties": TEXT}}}
    (cause,) = validate(schema, value)
    assert (cause.field, cause.reason) == (field, reason)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["spec", "name", "map", "list", "open", "a", "z"]), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(ANYTHING.filter(lambda value: isinstance(value, dict)))
def test_any_object_is_pruned_once_and_judged(value: Any) -> None:
    """Whatever comes in: no exception, and pruning again finds nothing."""
    prune(SCHEMA, value)
    once = copy.deepcopy(value)
    assert prune(SCHEMA, value) == []
    assert value == once
    validate(SCHEMA, value)
