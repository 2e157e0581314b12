"""The technology compatibility kit of CloudEvents SQL: the cases of the CloudEvents project, as they were written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor

from eventing.cesql import ErrorKind, compile_expression
from eventing.errors import InvalidFilter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ruamel.yaml.nodes import MappingNode

BESIDE_THE_REPOSITORY = Path(__file__).parents[3] / "shared" / "conformance"
KIT = Path(os.environ.get("PENSTOCK_CONFORMANCE") or BESIDE_THE_REPOSITORY) / "cesql"
CASES = 275

FULL_EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "full-event",
    "source": "http://example.com/source",
    "type": "com.example.FullEvent",
    "subject": "topic",
    "time": "2020-03-21T12:34:56.78Z",
    "datacontenttype": "text/json",
    "dataschema": "http://example.com/schema",
    "exbool": True,
    "exint": 42,
    "exstring": "exstring",
}


class Constructor(SafeConstructor):
    """Reads an expression, and a time, as the text that it is."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> Any:
        for key, value in node.value:
            if key.value == "expression":
                value.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep=deep)


Constructor.add_constructor("tag:yaml.org,2002:timestamp", lambda constructor, node: constructor.construct_scalar(node))


def _cases() -> Iterator[Any]:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = Constructor
    for path in sorted(KIT.glob("*.yaml")):
        for case in yaml.load(path.read_text())["tests"]:
            yield pytest.param(case, id=f"{path.stem}-{case['name']}")


FOUND = list(_cases())


def test_all_cases_of_the_kit_are_there() -> None:
    if not FOUND and not os.environ.get("CI"):
        pytest.skip(f"{KIT} is missing: set PENSTOCK_CONFORMANCE to the folder with the conformance data")
    assert len(FOUND) == CASES, f"{KIT} is missing or not whole"


@pytest.mark.parametrize("case", FOUND)
def test_case_of_the_kit(case: dict[str, Any]) -> None:
    expected = case.get("error")
    if expected == ErrorKind.PARSE:
        with pytest.raises(InvalidFilter):
            compile_expression(case["expression"])
        return
    event = case.get("event") or FULL_EVENT | case.get("eventOverrides", {})
    value, error = compile_expression(case["expression"]).evaluate(event)
    assert (error.kind if error else None) == expected
    assert (type(value), value) == (type(case["result"]), case["result"])
