"""`penstock explain`: what it reads, and how it shows a verdict."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from broker.commands.explain import judge, read_attributes, rows
from broker.commands.messages import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

EVENT = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.created", "total": 12}
SEEN = {name: str(value) for name, value in EVENT.items()}
READY = {"conditions": [{"type": "Ready", "status": "True"}]}


def a_trigger(status: dict[str, Any] = READY, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "t", "namespace": "default"},
        "spec": {"broker": "default", "subscriber": {"uri": "http://x"}, **spec},
        "status": status,
    }


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ({}, ["t  matches", "  + every event"]),
        (
            {"filter": {"attributes": {"type": "order.paid"}}},
            ["t  does not match", "  - type is 'order.paid'    (type is 'order.created')"],
        ),
        (
            {"filters": [{"prefix": {"type": "order."}}, {"not": {"exact": {"subject": "x"}}}]},
            [
                "t  matches",
                "  + all of",
                "    + type begins with 'order.'    (type is 'order.created')",
                "    + not",
                "      - subject is 'x'    (the event has no subject)",
            ],
        ),
        (
            {"filters": [{"cesql": "total > 5 AND INT(source) = 1"}]},
            [
                "t  does not match",
                "  - all of",
                "    + total > 5    (total is '12')",
                "    - INT(source) = 1    (source is '/shop'; '/shop' is no integer)",
            ],
        ),
    ],
)
def test_each_term_is_shown_with_the_values_compared(spec: dict[str, Any], shown: list[str]) -> None:
    assert list(rows(judge(a_trigger(**spec), SEEN))) == shown


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"filters": [{"cesql": "type ="}]}, "spec.filters[0].cesql"),
        ({"filters": [{"exact": {"Type": "x"}}]}, 'invalid key name "Type"'),
        ({"filters": [{"exakt": {"type": "x"}}]}, "spec.filters[0].exakt"),
        ({"filter": "type=x"}, "spec.filter"),
    ],
)
def test_a_filter_that_cannot_be_compiled_is_shown_with_its_reason(spec: dict[str, Any], says: str) -> None:
    verdict = judge(a_trigger(**spec), SEEN)
    assert (verdict.matches, verdict.explanation) == (None, None)
    (row,) = rows(verdict)
    assert row.startswith("t  the filter cannot be compiled: ")
    assert says in row


def test_a_trigger_that_is_not_ready_is_said_to_be() -> None:
    status = {"conditions": [{"type": "Ready", "status": "False", "reason": "NoBroker", "message": "it is gone"}]}
    assert list(rows(judge(a_trigger(status), SEEN)))[-1] == "  (the Trigger is not Ready: NoBroker: it is gone)"
    assert "no condition Ready" in list(rows(judge(a_trigger({}), SEEN)))[-1]


def test_values_cannot_write_to_the_terminal() -> None:
    verdict = judge(a_trigger(filters=[{"cesql": "type = '\x1b[2J'"}]), {**SEEN, "type": "\x1b[31m"})
    assert all(row.isprintable() for row in rows(verdict))


def test_the_event_is_seen_as_the_broker_would_take_it(tmp_path: Path) -> None:
    file = tmp_path / "event.json"
    file.write_text(json.dumps({**EVENT, "knativebrokerttl": "3", "data": {"a": 1}}))
    seen = read_attributes(file)
    assert {**SEEN, "datacontenttype": "application/json"}.items() <= seen.items()
    assert "knativearrivaltime" in seen
    assert "knativebrokerttl" not in seen


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no event"),
        ("[]", "holds no event: explain takes one"),
        (json.dumps([EVENT, EVENT]), "holds more than one event: explain takes one"),
        (f"{json.dumps(EVENT)}\n{json.dumps(EVENT)}\n", "holds more than one event"),
        ("{", "neither a JSON event"),
        ('{"specversion": "1.0"}', "a Broker would refuse this event: id: is missing"),
        (json.dumps({**EVENT, "knativebrokerttl": "1"}), "has run out"),
    ],
)
def test_what_is_not_one_event_is_one_plain_line_and_code_2(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "event.json"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=r"event\.json") as raised:
        read_attributes(file)
    assert says in str(raised.value)
    command = [sys.executable, "-m", "broker", "explain", "-f", str(file), "--kubeconfig", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="none: No such file"):
        read_attributes(tmp_path / "none")
