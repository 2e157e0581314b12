"""The conformance scenarios of the CloudEvents project for the HTTP binding, run as they were written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pytest_bdd import given, parsers, scenarios, then, when

from eventing.http_binding import Message, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

BESIDE_THE_REPOSITORY = Path(__file__).parents[4] / "shared" / "conformance"
CONFORMANCE = Path(os.environ.get("PENSTOCK_CONFORMANCE") or BESIDE_THE_REPOSITORY)
FEATURE = CONFORMANCE / "cloudevents" / "http-protocol-binding.feature"

if FEATURE.is_file():
    scenarios(str(FEATURE))
else:

    def test_the_conformance_scenarios_are_there() -> None:
        reason = f"{FEATURE} is missing: set PENSTOCK_CONFORMANCE to the folder with the conformance data"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@given("HTTP Protocol Binding is supported")
def _supported() -> None:
    """The binding is what is tested here."""


@given("an HTTP request", target_fixture="request_text")
def _request(docstring: str) -> str:
    return docstring


@when("parsed as HTTP request", target_fixture="message")
def _parsed(request_text: str) -> Message:
    head, _, body = request_text.partition("\n\n")
    _, *lines = head.splitlines()
    headers = [tuple(part.strip().encode() for part in line.split(":", 1)) for line in lines]
    return parse([(name, value) for name, value in headers], body.encode())


@then("the attributes are:")
def _attributes(message: Message, datatable: Iterable[list[str]]) -> None:
    _, *rows = datatable
    assert dict(message.attributes) == {key.strip(): value.strip() for key, value in rows}


@then(parsers.parse("the data is equal to the following JSON:"))
def _data(message: Message, docstring: str) -> None:
    assert json.loads(message.data) == json.loads(docstring)
