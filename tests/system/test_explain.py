"""`penstock explain` against a running Penstock: which Triggers want an event, and why the others do not."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.system.support import broker, trigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.system.support import Penstock

pytestmark = pytest.mark.system

EVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "order.created"}


def _explain(one: Penstock, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "broker", "explain", "--kubeconfig", str(one.data / "kubeconfig"), "-f", "-"]
    return subprocess.run(
        [*command, *args], input=json.dumps(EVENT), capture_output=True, text=True, check=False, timeout=30
    )


async def test_the_triggers_of_one_broker_are_explained(penstock: Callable[..., Penstock]) -> None:
    one = penstock()
    await one.start()
    url = "http://127.0.0.1:9"
    one.apply(
        broker(),
        broker("other"),
        trigger("b-wants", url, filters=[{"prefix": {"type": "order."}}]),
        trigger("a-declines", url, filters=[{"exact": {"type": "order.paid", "source": "/s"}}]),
        trigger("elsewhere", url, broker="other"),
    )
    one.wait_ready("trigger/b-wants", "trigger/a-declines")

    table = _explain(one)
    assert (table.returncode, table.stderr) == (0, "1 of 2 Triggers of default/default wants the event\n")
    assert table.stdout.splitlines() == [
        "a-declines  does not match",
        "  - all of",
        "    + source is '/s'    (source is '/s')",
        "    - type is 'order.paid'    (type is 'order.created')",
        "b-wants  matches",
        "  + type begins with 'order.'    (type is 'order.created')",
    ]

    verdicts = [json.loads(row) for row in _explain(one, "-o", "json").stdout.splitlines()]
    assert [(verdict["trigger"], verdict["matches"]) for verdict in verdicts] == [
        ("a-declines", False),
        ("b-wants", True),
    ]
    failed = [part for part in verdicts[0]["explanation"]["parts"] if not part["matched"]]
    assert [part["compared"] for part in failed] == [[{"attribute": "type", "value": "order.created"}]]

    assert _explain(one, "--broker", "other").stdout == "elsewhere  matches\n  + every event\n"
    missing = _explain(one, "--broker", "missing")
    assert (missing.returncode, missing.stdout, len(missing.stderr.splitlines())) == (1, "", 1)
    assert "missing" in missing.stderr
