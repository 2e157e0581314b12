"""Every kind that Penstock knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.objects.core_kinds import core_kinds
from controller.objects.dead_letter import dead_letter_kind
from controller.objects.eventing_kinds import broker_kind, trigger_kind
from controller.objects.workload_kinds import workload_kinds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.objects.kind import Kind


def all_kinds() -> tuple[Kind, ...]:
    """Broker and Trigger, what they may refer to, and what the operations API shows."""
    return (broker_kind(), trigger_kind(), *core_kinds(), *workload_kinds(), dead_letter_kind())


KINDS: Sequence[Kind] = all_kinds()
"""The kinds that the embedded API serves."""


def plural_of(group: str, kind: str) -> str:
    """The resource name of a kind; of one that is not ours, as Kubernetes guesses it."""
    for known in KINDS:
        if (known.group, known.kind) == (group, kind):
            return known.plural
    name = kind.lower()
    if name.endswith(("s", "x", "ch", "sh")):
        return f"{name}es"
    if name.endswith("y"):
        return f"{name[:-1]}ies"
    return f"{name}s"
