"""Lists that are sets or maps by their schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from controller.embedded.list_types import repeated_items

if TYPE_CHECKING:
    from controller.objects.kind import JsonObject

PORTS: JsonObject = {
    "type": "array",
    "items": {"type": "object"},
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["port", "protocol"],
}
TAGS: JsonObject = {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}
SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "ports": PORTS,
        "tags": TAGS,
        "plain": {"type": "array", "items": {"type": "object", "properties": {"tags": TAGS}}},
        "named": {"type": "object", "additionalProperties": TAGS},
    },
}


@pytest.mark.parametrize(
    ("value", "faults"),
    [
        pytest.param({"tags": ["a", "b"], "plain": [1, 1]}, [], id="none"),
        pytest.param({"tags": ["a", "b", "a", "a"]}, ['tags[2]: Duplicate value: "a"'], id="a value, said once"),
        pytest.param({"tags": [True, 1]}, [], id="true is not one"),
        pytest.param(
            {"ports": [{"port": 1, "protocol": "TCP"}, {"port": 1}, {"protocol": "TCP", "port": 1, "name": "x"}]},
            ['ports[2]: Duplicate value: {"port":1,"protocol":"TCP"}'],
            id="keys",
        ),
        pytest.param({"ports": [{}, {"name": "x"}]}, ["ports[1]: Duplicate value: {}"], id="without keys"),
        pytest.param({"plain": [{"tags": ["a", "a"]}]}, ['plain[0].tags[1]: Duplicate value: "a"'], id="below a list"),
        pytest.param({"named": {"x": ["a", "a"]}}, ['named.x[1]: Duplicate value: "a"'], id="below a free name"),
    ],
)
def test_repeated_items(value: Any, faults: list[str]) -> None:
    """Each item that stands again is named once, with its place."""
    assert [str(cause) for cause in repeated_items(SCHEMA, value)] == faults
