"""Label and field selectors of the embedded Kubernetes API."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.embedded.selectors import parse_selection
from controller.embedded.status import ApiError
from controller.objects.kind import Kind

KIND = Kind("toys.example.com", "v1", "Toy", "toys", "toy", field_selectors=("spec.color",))
NAMES = st.from_regex(re.compile(r"[a-z]([-a-z0-9_.]{0,5}[a-z0-9])?", re.ASCII), fullmatch=True).filter(
    lambda name: name not in ("in", "notin")
)
LABELS = st.dictionaries(NAMES, NAMES, max_size=4)


def selects(selector: str, fields: str = "", **metadata: Any) -> bool:
    value = {"metadata": {"name": "bear", "namespace": "home"} | metadata, "spec": {"color": "red"}}
    return parse_selection(KIND, selector, fields).matches(value)


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("", True),
        ("a=1", True),
        ("a==1", True),
        ("a = 1 , b = 2", True),
        ("a=2", False),
        ("c=1", False),
        ("a!=1", False),
        ("c!=1", True),
        ("a in (1, 2)", True),
        ("a in (3)", False),
        ("c in ()", False),
        ("a notin (1,2),b=2", False),
        ("c notin (1,2),b=2", True),
        ("a", True),
        ("c", False),
        ("!c", True),
        ("! a", False),
        ("a=1,!c,example.com/x", True),
        ("e=", True),
        ("b>1", True),
        ("b<2", False),
        ("c>1", False),
    ],
)
def test_labels(selector: str, matches: bool) -> None:
    """Every operator, on labels that are there and that are not."""
    assert selects(selector, labels={"a": "1", "b": "2", "e": "", "example.com/x": "y"}) is matches


@pytest.mark.parametrize("selector", ["a=b=c", "a in b", "=a", "a,,b", "a,", ",a", "a in (b", "-a", "b>x", "a!"])
def test_labels_that_cannot_be_read(selector: str) -> None:
    """400, never everything or nothing in silence."""
    with pytest.raises(ApiError) as raised:
        parse_selection(KIND, selector, "")
    assert raised.value.code == 400


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("metadata.name=bear", True),
        ("metadata.name==fox", False),
        ("metadata.name!=fox,metadata.namespace=home", True),
        ("spec.color=red", True),
        ("spec.color!=red", False),
        (r"spec.color=r\=ed", False),
    ],
)
def test_fields(selector: str, matches: bool) -> None:
    """The fields that every kind has, and those that the kind names."""
    assert selects("", selector) is matches


@pytest.mark.parametrize(
    ("selector", "message"),
    [("spec.size=1", "field label not supported: spec.size"), ("metadata.name", "can't understand")],
)
def test_fields_that_are_refused(selector: str, message: str) -> None:
    """The message is the one that client-go knows."""
    with pytest.raises(ApiError, match=message):
        parse_selection(KIND, "", selector)


@given(LABELS, LABELS)
def test_equality_selects_exactly_the_objects_with_these_labels(wanted: dict[str, str], labels: dict[str, str]) -> None:
    """A selector made of labels matches iff all of them are there."""
    selector = ",".join(f"{key}={value}" for key, value in wanted.items())
    assert selects(selector, labels=labels) is (wanted.items() <= labels.items())


@given(NAMES, st.lists(NAMES, min_size=1, max_size=3), LABELS)
def test_in_and_notin_are_opposites(key: str, values: list[str], labels: dict[str, str]) -> None:
    """Whatever the labels, one of the two holds."""
    listed = ", ".join(values)
    assert selects(f"{key} in ({listed})", labels=labels) is not selects(f"{key} notin ({listed})", labels=labels)


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_is_read_or_refused(labels: str, fields: str) -> None:
    """Garbage never escapes as another exception."""
    with contextlib.suppress(ApiError):
        parse_selection(KIND, labels, fields)
