"""Sets of fields on the wire, and values beside their shape: fields, comparison, merging, removing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.embedded.apply.errors import TypedError, UnkeyedItem
from controller.embedded.apply.merge import merge, remove
from controller.embedded.apply.paths import (
    decode_fields,
    encode_fields,
    in_order,
    key_element,
    path_text,
    value_element,
    without_parts,
)
from controller.embedded.apply.shape import Shape
from controller.embedded.apply.typed import ABSENT, check, compare, field_set

if TYPE_CHECKING:
    from controller.objects.kind import JsonObject

TEXT = {"type": "string"}
NUMBER = {"type": "integer"}
PORT: JsonObject = {
    "type": "object",
    "properties": {"port": NUMBER, "protocol": TEXT | {"default": "TCP"}, "name": TEXT},
}
SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "name": TEXT,
        "size": NUMBER,
        "labels": {"type": "object", "additionalProperties": TEXT},
        "one": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": TEXT},
        "inner": {"type": "object", "properties": {"a": NUMBER, "b": NUMBER}},
        "list": {"type": "array", "items": NUMBER},
        "set": {"type": "array", "items": TEXT, "x-kubernetes-list-type": "set"},
        "ports": {
            "type": "array",
            "items": PORT,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["port", "protocol"],
        },
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"known": TEXT}},
    },
}
SHAPE = Shape(SCHEMA)
TCP_80 = 'k:{"port":80,"protocol":"TCP"}'
TCP_ITEM = '.ports[port=80,protocol="TCP"]'
UDP_53 = 'k:{"port":53,"protocol":"UDP"}'


def fields(value: Any) -> Any:
    return encode_fields(field_set(SHAPE, value))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param({"name": "x", "size": 1}, {"f:name": {}, "f:size": {}}, id="leaves"),
        pytest.param({"inner": {"a": 1}}, {"f:inner": {"f:a": {}}}, id="declared fields are not members themselves"),
        pytest.param({"inner": {}}, {"f:inner": {}}, id="an empty map is a leaf"),
        pytest.param({"inner": None}, {"f:inner": {}}, id="null is a leaf"),
        pytest.param({"labels": {"a": "1"}}, {"f:labels": {"f:a": {}}}, id="free names"),
        pytest.param({"free": {"x": {"y": 1}}}, {"f:free": {"f:x": {".": {}, "f:y": {}}}}, id="free maps are members"),
        pytest.param({"free": {"known": "x"}}, {"f:free": {"f:known": {}}}, id="known among free"),
        pytest.param({"one": {"a": "1"}}, {"f:one": {}}, id="atomic map"),
        pytest.param({"list": [1, 2]}, {"f:list": {}}, id="atomic list"),
        pytest.param({"set": ["a", "<"]}, {"f:set": {'v:"\\u003c"': {}, 'v:"a"': {}}}, id="set"),
        pytest.param({"set": []}, {}, id="an empty set claims nothing"),
        pytest.param(
            {"ports": [{"port": 80}, {"port": 53, "protocol": "UDP", "name": "dns"}]},
            {
                "f:ports": {
                    UDP_53: {".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}},
                    TCP_80: {".": {}, "f:port": {}},
                }
            },
            id="list by keys, with the default of a key",
        ),
        pytest.param({"ports": [{"port": 80}, {"port": 80}]}, {"f:ports": {TCP_80: {}}}, id="items with equal keys"),
    ],
)
def test_fields_of_a_configuration(value: Any, expected: Any) -> None:
    """What an applied configuration claims, as FieldsV1."""
    assert fields(value) == expected
    assert encode_fields(decode_fields(expected)) == expected


@pytest.mark.parametrize(
    ("old", "new", "added", "modified", "removed"),
    [
        pytest.param({"size": 1}, {"size": 2}, [], [".size"], [], id="changed"),
        pytest.param({"size": 1}, {"size": 1.0}, [], [], [], id="equal numbers"),
        pytest.param({}, {"inner": {"a": 1}}, [".inner", ".inner.a"], [], [], id="a map that comes is in it"),
        pytest.param({"inner": {"a": 1}}, {}, [], [], [".inner", ".inner.a"], id="a map that goes is in it"),
        pytest.param({"inner": {"a": 1}}, {"inner": {"b": 1}}, [".inner.b"], [], [".inner.a"], id="inside a map"),
        pytest.param({"inner": {"a": 1}}, {"inner": {}}, [], [], [".inner.a"], id="emptied"),
        pytest.param({"inner": {}}, {"inner": None}, [], [".inner"], [], id="empty and null differ"),
        pytest.param({"one": {"a": "1"}}, {"one": {"b": "1"}}, [], [".one"], [], id="atomic map"),
        pytest.param({"list": [1]}, {"list": [1, 2]}, [], [".list"], [], id="atomic list"),
        pytest.param({"set": ["a"]}, {"set": ["b"]}, ['.set[="b"]'], [], ['.set[="a"]'], id="set"),
        pytest.param(
            {"ports": [{"port": 80}]},
            {"ports": [{"port": 80, "protocol": "TCP", "name": "web"}]},
            [f"{TCP_ITEM}.name", f"{TCP_ITEM}.protocol"],
            [],
            [],
            id="item by keys",
        ),
        pytest.param(
            {"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]},
            {"ports": [{"port": 80, "name": "b"}]},
            [TCP_ITEM, f"{TCP_ITEM}.name", f"{TCP_ITEM}.port"],
            [],
            [TCP_ITEM],
            id="equal keys before",
        ),
        pytest.param(
            {"ports": [{"port": 80}]},
            {"ports": [{"port": 80}, {"port": 80, "name": "x"}]},
            [TCP_ITEM],
            [],
            [TCP_ITEM, f"{TCP_ITEM}.port"],
            id="equal keys after",
        ),
        pytest.param({"free": {"x": 1}}, {"free": {"x": {"y": 1}}}, [".free.x.y"], [".free.x"], [], id="to a map"),
        pytest.param({"free": {"x": {"y": 1}}}, {"free": {"x": 1}}, [], [".free.x"], [".free.x.y"], id="from a map"),
    ],
)
def test_compare(old: Any, new: Any, added: list[str], modified: list[str], removed: list[str]) -> None:
    """What came, changed and went between two values."""
    found = compare(SHAPE, old, new)
    texts = [[path_text(path) for path in in_order(part)] for part in (found.added, found.modified, found.removed)]
    assert texts == [added, modified, removed]


@pytest.mark.parametrize(
    ("old", "new", "merged"),
    [
        pytest.param({"size": 1, "name": "x"}, {"size": 2}, {"size": 2, "name": "x"}, id="leaf"),
        pytest.param({"inner": {"a": 1}}, {"inner": {"b": 2}}, {"inner": {"a": 1, "b": 2}}, id="map"),
        pytest.param({"inner": {"a": 1}}, {"inner": {}}, {"inner": {"a": 1}}, id="an empty map removes nothing"),
        pytest.param({"inner": {"a": 1}}, {"inner": None}, {"inner": {"a": 1}}, id="null removes nothing"),
        pytest.param({"one": {"a": "1"}}, {"one": {"b": "2"}}, {"one": {"b": "2"}}, id="atomic map"),
        pytest.param({"list": [1, 2]}, {"list": [3]}, {"list": [3]}, id="atomic list"),
        pytest.param({"set": ["a", "b"]}, {"set": ["c"]}, {"set": ["a", "b", "c"]}, id="set"),
        pytest.param({"set": ["a", "b", "c"]}, {"set": ["c", "a"]}, {"set": ["b", "c", "a"]}, id="order of the new"),
        pytest.param(
            {"set": ["1", "a", "2", "b", "3"]}, {"set": ["b", "a"]}, {"set": ["1", "2", "b", "3", "a"]}, id="in between"
        ),
        pytest.param(
            {"ports": [{"port": 1}, {"port": 80, "name": "x"}]},
            {"ports": [{"port": 80, "protocol": "TCP"}, {"port": 2}]},
            {"ports": [{"port": 1}, {"port": 80, "name": "x", "protocol": "TCP"}, {"port": 2}]},
            id="items by keys",
        ),
        pytest.param({"free": {"x": 1}}, {"free": {"x": {"y": 1}}}, {"free": {"x": {"y": 1}}}, id="other form"),
    ],
)
def test_merge(old: Any, new: Any, merged: Any) -> None:
    """Merging keeps everything old and takes everything new, in the order of the new where it names items."""
    assert merge(SHAPE, old, new) == merged
    assert merge(SHAPE, ABSENT, new) == new


@pytest.mark.parametrize(
    ("value", "given_up", "left"),
    [
        pytest.param({"size": 1, "name": "x"}, {"f:size": {}}, {"name": "x"}, id="leaf"),
        pytest.param({"inner": {"a": 1, "b": 2}}, {"f:inner": {"f:a": {}}}, {"inner": {"b": 2}}, id="inside"),
        pytest.param(
            {"name": "x", "inner": {"a": 1}}, {"f:inner": {"f:a": {}}}, {"name": "x", "inner": None}, id="all"
        ),
        pytest.param({"set": ["a", "b"]}, {"f:set": {'v:"a"': {}}}, {"set": ["b"]}, id="item of a set"),
        pytest.param(
            {"ports": [{"port": 80, "name": "x"}, {"port": 53, "protocol": "UDP"}]},
            {"f:ports": {UDP_53: {}, TCP_80: {"f:name": {}}}},
            {"ports": [{"port": 80}]},
            id="items by keys",
        ),
        pytest.param({"size": 1, "list": [1]}, {"f:list": {}}, {"size": 1}, id="atomic list"),
    ],
)
def test_remove(value: Any, given_up: Any, left: Any) -> None:
    """Removing takes out fields and items; what is emptied by it is null."""
    assert remove(SHAPE, value, decode_fields(given_up)) == left


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param({"size": "x"}, ".size: expected numeric (int or float), got string", id="number"),
        pytest.param({"size": True}, ".size: expected numeric (int or float), got bool", id="a truth value is none"),
        pytest.param({"name": 7}, ".name: expected string, got &value.valueUnstructured{Value:7}", id="string"),
        pytest.param({"nome": 7}, ".nome: field not declared in schema", id="unknown"),
        pytest.param({"inner": [1]}, ".inner: expected map, got &{[1]}", id="map"),
        pytest.param({"list": {"a": 1}}, ".list: expected list, got &{map[a:1]}", id="list"),
        pytest.param({"set": ["a", "a"]}, '.set: duplicate entries for key [="a"]', id="twice"),
        pytest.param({"set": [{}]}, ".set: element 0: associative list without keys has an element that's a map type"),
        pytest.param({"ports": [7]}, ".ports: element 0: associative list with keys may not have non-map elements"),
        pytest.param(
            {"name": 1, "size": "x"},
            "errors:\n  .name: expected string, got &value.valueUnstructured{Value:1}\n"
            "  .size: expected numeric (int or float), got string",
            id="two",
        ),
    ],
)
def test_check(value: Any, message: str) -> None:
    """What does not fit is named with its path, in the words of an API server."""
    with pytest.raises(TypedError) as caught:
        check(SHAPE, value)
    assert str(caught.value) == message


def test_items_need_a_key() -> None:
    """An item without any of its keys cannot be told from others; one default among them is enough."""
    keyed: JsonObject = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["port"],
        "items": PORT,
    }
    with pytest.raises(UnkeyedItem, match="omits all key fields"):
        Shape(keyed).element({"name": "x"})
    assert Shape(SCHEMA).field("ports").element({"name": "x"}) == 'k:{"protocol":"TCP"}'  # type: ignore[union-attr] # it is declared


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([], id="no object"),
        pytest.param({"name": {}}, id="no type"),
        pytest.param({"f:name": 1}, id="no object below"),
        pytest.param({"k:[1]": {}}, id="keys that are none"),
        pytest.param({"v:{": {}}, id="no JSON"),
        pytest.param({"": {}}, id="nothing"),
    ],
)
def test_unreadable_fields(fields: Any) -> None:
    """What is no FieldsV1 is refused."""
    with pytest.raises(ValueError, match=r"."):
        decode_fields(fields)


def test_fields_are_normal_forms() -> None:
    """Elements that are equal become one, and those of unknown types are left out with what is below."""
    assert decode_fields({'k:{"b": 1.0, "a":"x"}': {}}) == {('k:{"a":"x","b":1}',)}
    assert decode_fields({"x:new": {"f:a": {}}, "f:b": {".": {}, "x:y": {}}}) == {("f:b",)}


def test_without_parts() -> None:
    """Leaving out a field leaves out what is below it, and nothing above."""
    paths = decode_fields({"f:spec": {".": {}, "f:a": {}}, "f:status": {".": {}, "f:b": {"f:c": {}}}})
    assert encode_fields(without_parts(paths, frozenset({("f:status",)}))) == {"f:spec": {".": {}, "f:a": {}}}


ELEMENTS = st.one_of(
    st.text(min_size=1).map(lambda name: f"f:{name}"),
    st.one_of(st.text(), st.integers(), st.booleans()).map(value_element),
    st.dictionaries(st.text(), st.one_of(st.text(), st.integers()), min_size=1).map(key_element),
)


@given(st.frozensets(st.lists(ELEMENTS, min_size=1, max_size=4).map(tuple), max_size=20))
def test_fields_survive_the_wire(paths: frozenset[tuple[str, ...]]) -> None:
    """Whatever set is written as FieldsV1 is read back as it was."""
    assert decode_fields(encode_fields(paths)) == paths


def number_of(port: Any) -> Any:
    return port["port"]


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from("xy"),
        "labels": st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"), min_size=1),
        "inner": st.dictionaries(st.sampled_from("ab"), st.integers(0, 2), min_size=1),
        "set": st.lists(st.sampled_from("abcd"), unique=True, min_size=1),
        "ports": st.lists(
            st.fixed_dictionaries({"port": st.integers(1, 4)}, optional={"name": st.sampled_from("xy")}),
            unique_by=number_of,
            min_size=1,
        ),
    },
)


@given(VALUES, VALUES)
def test_merged_has_all_that_was_applied(old: Any, new: Any) -> None:
    """After a merge, applying the same again changes nothing, and what was only in the old is still there."""
    merged = merge(SHAPE, old, new)
    assert merge(SHAPE, merged, new) == merged
    assert not compare(SHAPE, old, merged).removed
    assert field_set(SHAPE, merged) == field_set(SHAPE, old) | field_set(SHAPE, new)


@given(VALUES, VALUES)
def test_comparison_leads_from_one_to_the_other(old: Any, new: Any) -> None:
    """Only what the comparison names differs: without it, the values are alike."""
    found = compare(SHAPE, old, new)
    left = remove(SHAPE, old, found.removed | found.modified) or {}
    right = remove(SHAPE, new, found.added | found.modified) or {}
    again = compare(SHAPE, left, right)
    assert not again.added | again.modified | again.removed
