"""The three patch types of the embedded Kubernetes API."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.embedded.patch import json_patch, merge_patch, same, strategic_merge_patch
from controller.embedded.status import ApiError

SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.text("abc", max_size=2)
JSON_VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=12,
)


def has_null(value: Any) -> bool:
    """Whether a null stands in an object somewhere outside a list: a merge patch cannot say it."""
    return value is None or (isinstance(value, dict) and any(has_null(each) for each in value.values()))


def diff(old: Any, new: Any) -> Any:
    """A merge patch from `old` to `new`."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    patch: dict[str, Any] = dict.fromkeys(old.keys() - new.keys())
    changed = {key: diff(old.get(key), value) for key, value in new.items() if not same(old.get(key), value)}
    return patch | changed


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_examples_of_the_rfc(target: Any, patch: Any, result: Any) -> None:
    """RFC 7386, appendix A."""
    assert merge_patch(target, patch) == result


def has_null_in_list(value: Any) -> bool:
    """Whether a null stands in an object inside a list: whether it is dropped depends on what the list replaces."""
    if isinstance(value, list):
        return any(has_null(each) or has_null_in_list(each) for each in value)
    return isinstance(value, dict) and any(has_null_in_list(each) for each in value.values())


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        pytest.param({}, {"a": [{"b": None}, None]}, {"a": [{}, None]}, id="new"),
        pytest.param({"a": [1]}, {"a": [[{"b": None, "c": 1}]]}, {"a": [[{"c": 1}]]}, id="for a list"),
        pytest.param({"a": {"b": 1}}, {"a": [{"b": None}]}, {"a": [{"b": None}]}, id="for an object"),
    ],
)
def test_merge_patch_drops_nulls_inside_lists(target: Any, patch: Any, result: Any) -> None:
    """As the library of an API server does it, where the RFC says nothing."""
    assert merge_patch(target, patch) == result


@given(JSON_VALUES, JSON_VALUES.filter(lambda value: not has_null_in_list(value)))
def test_merge_patch_is_idempotent_and_changes_no_argument(target: Any, patch: Any) -> None:
    """Applying a patch twice is applying it once; what went in is as it was."""
    before = copy.deepcopy((target, patch))
    once = merge_patch(target, patch)
    assert same(merge_patch(once, patch), once)
    assert same([target, patch], list(before))


@given(JSON_VALUES, JSON_VALUES.filter(lambda value: not has_null(value) and not has_null_in_list(value)))
def test_merge_patch_of_a_difference_gives_the_new_value(old: Any, new: Any) -> None:
    """Any value without nulls can be reached from any other."""
    assert same(merge_patch(old, diff(old, new)), new)


@given(JSON_VALUES)
def test_the_empty_merge_patch_keeps_objects(target: Any) -> None:
    """{} leaves an object alone, and makes one of anything else."""
    assert same(merge_patch(target, {}), target if isinstance(target, dict) else {})


@pytest.mark.parametrize(
    ("target", "operations", "result"),
    [
        ({"a": 1}, [{"op": "add", "path": "/b", "value": 2}], {"a": 1, "b": 2}),
        ({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2]}),
        ({"a": 1, "b": 2}, [{"op": "remove", "path": "/b"}], {"a": 1}),
        ({"a": [1, 2]}, [{"op": "remove", "path": "/a/0"}], {"a": [2]}),
        ({"a": 1}, [{"op": "replace", "path": "/a", "value": {"b": []}}], {"a": {"b": []}}),
        ({"a": {"b": 1}}, [{"op": "move", "from": "/a/b", "path": "/c"}], {"a": {}, "c": 1}),
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
        ({"a/b": 1, "m~n": 2}, [{"op": "replace", "path": "/a~1b", "value": 3}], {"a/b": 3, "m~n": 2}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": 1}, {"op": "remove", "path": "/a"}], {}),
    ],
)
def test_json_patch(target: Any, operations: Any, result: Any) -> None:
    """RFC 6902, and the target stays as it was."""
    before = json.dumps(target)
    assert json_patch(target, operations) == result
    assert json.dumps(target) == before


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        pytest.param({"op": "test", "path": "/a", "value": True}, 422, id="1-is-not-true"),
        pytest.param({"op": "test", "path": "/x", "value": 1}, 422, id="test-of-nothing"),
        pytest.param({"op": "remove", "path": "/x"}, 422, id="remove-nothing"),
        pytest.param({"op": "replace", "path": "/x", "value": 1}, 422, id="replace-nothing"),
        pytest.param({"op": "add", "path": "/x/y", "value": 1}, 422, id="no-parent"),
        pytest.param({"op": "add", "path": "/a/y", "value": 1}, 422, id="parent-is-a-number"),
        pytest.param({"op": "add", "path": "/l/3", "value": 1}, 422, id="past-the-end"),
        pytest.param({"op": "add", "path": "/l/01", "value": 1}, 422, id="leading-zero"),
        pytest.param({"op": "add", "path": "a", "value": 1}, 422, id="no-pointer"),
        pytest.param({"op": "move", "from": "/l", "path": "/l/0"}, 422, id="into-itself"),
        pytest.param({"op": "jump", "path": "/a"}, 400, id="unknown-operation"),
        pytest.param({"op": "add", "path": "/a"}, 400, id="no-value"),
        pytest.param({"op": "move", "path": "/a"}, 400, id="no-from"),
    ],
)
def test_json_patch_that_does_not_fit(operation: Any, code: int) -> None:
    """What does not fit the object is 422, what is no patch 400."""
    with pytest.raises(ApiError) as raised:
        json_patch({"a": 1, "l": [1, 2]}, [operation])
    assert raised.value.code == code


@given(
    JSON_VALUES, st.lists(st.dictionaries(st.sampled_from(["op", "path", "value", "from"]), JSON_VALUES), max_size=3)
)
def test_json_patch_of_anything_is_a_result_or_an_api_error(target: Any, operations: Any) -> None:
    """Garbage never escapes as another exception."""
    with contextlib.suppress(ApiError):
        json_patch(target, operations)


PORTS = {
    "type": "array",
    "items": {"type": "object", "properties": {"name": {"type": "string"}}},
    "x-kubernetes-patch-strategy": "merge",
    "x-kubernetes-patch-merge-key": "port",
}
SCHEMA = {
    "properties": {
        "ports": PORTS,
        "finalizers": {"type": "array", "x-kubernetes-patch-strategy": "merge"},
        "spec": {"properties": {"ports": PORTS}},
    }
}
TWO = [{"port": 80, "name": "http"}, {"port": 443}]


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        pytest.param(
            {"ports": TWO},
            {"ports": [{"port": 443, "name": "tls"}]},
            {"ports": [TWO[0], {"port": 443, "name": "tls"}]},
            id="item-merged-by-key",
        ),
        pytest.param(
            {"spec": {"ports": TWO}},
            {"spec": {"ports": [{"port": 1}]}},
            {"spec": {"ports": [{"port": 1}, *TWO]}},
            id="item-added",
        ),
        pytest.param(
            {"ports": TWO}, {"ports": [{"port": 80, "$patch": "delete"}]}, {"ports": [TWO[1]]}, id="item-deleted"
        ),
        pytest.param(
            {"ports": TWO},
            {"ports": [{"port": 1}, {"$patch": "replace"}]},
            {"ports": [{"port": 1}]},
            id="list-replaced",
        ),
        pytest.param(
            {"ports": TWO}, {"$setElementOrder/ports": [{"port": 443}, {"port": 80}]}, {"ports": TWO[::-1]}, id="order"
        ),
        pytest.param({"finalizers": ["a"]}, {"finalizers": ["b", "a"]}, {"finalizers": ["b", "a"]}, id="set-merged"),
        pytest.param(
            {"finalizers": ["1", "a", "2"]},
            {"finalizers": ["b", "a"]},
            {"finalizers": ["b", "1", "a", "2"]},
            id="places",
        ),
        pytest.param(
            {"finalizers": ["1", "a", "2", "b"]},
            {"$setElementOrder/finalizers": ["b", "c", "a"], "finalizers": ["c"]},
            {"finalizers": ["1", "2", "b", "c", "a"]},
            id="places-in-order",
        ),
        pytest.param(
            {"finalizers": ["a", "b"]},
            {"$deleteFromPrimitiveList/finalizers": ["a"]},
            {"finalizers": ["b"]},
            id="set-item-deleted",
        ),
        pytest.param({"other": [1, 2]}, {"other": [3]}, {"other": [3]}, id="atomic-list"),
        pytest.param(
            {"spec": {"a": 1, "b": 2}}, {"spec": {"$retainKeys": ["b"], "b": 3}}, {"spec": {"b": 3}}, id="retain-keys"
        ),
        pytest.param({"spec": {"a": 1}}, {"spec": {"$patch": "replace", "b": 2}}, {"spec": {"b": 2}}, id="replace"),
        pytest.param({"spec": {"a": 1}}, {"spec": {"a": None}}, {"spec": {}}, id="null-removes"),
    ],
)
def test_strategic_merge_patch(target: Any, patch: Any, result: Any) -> None:
    """Keyed lists and directives, by the schema."""
    before = json.dumps(target)
    assert strategic_merge_patch(target, patch, SCHEMA) == result
    assert json.dumps(target) == before


def test_strategic_merge_patch_without_the_key() -> None:
    """An item without its merge key is refused."""
    with pytest.raises(ApiError, match="merge key: port"):
        strategic_merge_patch({}, {"ports": [{"name": "http"}]}, SCHEMA)
