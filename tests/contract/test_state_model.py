"""The state against a model of it: whatever is put in whatever order, what is loaded is what the contract says."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from channels.records import (
    Change,
    CursorRecord,
    DeliveryRecord,
    DeliveryState,
    DropCursor,
    ForgetTrigger,
    Mark,
    MoveTail,
    RemoveDelivery,
    TailRecord,
)
from tests.contract.harness import BROKER, SLOT, a_cursor, a_delivery, a_tail, claim_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from channels.driver import Backend
    from tests.contract.harness import Harness

TRIGGERS = ["t1", "t2", "t3"]


@dataclass
class Model:
    """What the contract says of one partition's state."""

    tail: TailRecord | None = None
    cursors: dict[str, CursorRecord] = field(default_factory=dict)
    deliveries: dict[str, DeliveryRecord] = field(default_factory=dict)

    def copy(self) -> Model:
        return Model(self.tail, dict(self.cursors), dict(self.deliveries))

    def apply(self, change: Change) -> None:
        """One change. Raises ValueError where it breaks a rule."""
        match change:
            case TailRecord():
                self.tail = change
            case MoveTail():
                if self.tail is None:
                    raise ValueError
                self.tail = replace(self.tail, mark=change.mark)
            case CursorRecord():
                self.cursors[change.trigger] = change
            case DropCursor():
                if self.tail is None or change.trigger not in self.tail.members:
                    raise ValueError
                self.cursors.pop(change.trigger, None)
            case DeliveryRecord():
                self.deliveries[change.id] = change
            case RemoveDelivery():
                self.deliveries.pop(change.id, None)
            case ForgetTrigger():
                self._forget(change.trigger)

    def _forget(self, trigger: str) -> None:
        self.cursors.pop(trigger, None)
        for known, delivery in self.deliveries.items():
            if delivery.trigger == trigger and delivery.state is DeliveryState.RETRYING:
                self.deliveries[known] = replace(
                    delivery, state=DeliveryState.DEAD, reason="the Trigger was deleted", updated=0.0
                )


triggers = st.sampled_from(TRIGGERS)
positions = st.integers(0, 2**39)
changes = st.one_of(
    st.builds(lambda members, position: a_tail(*members, position=position), st.sets(triggers), positions),
    st.builds(lambda position: MoveTail(BROKER, 0, Mark(position, 1)), positions),
    st.builds(
        lambda trigger, pending, position: a_cursor(trigger, *sorted(pending), position=position),
        triggers,
        st.sets(positions, max_size=5),
        positions,
    ),
    st.builds(lambda trigger: DropCursor(trigger, BROKER, 0), triggers),
    st.builds(lambda trigger: ForgetTrigger(trigger, BROKER), triggers),
    st.builds(
        lambda position, trigger, due: a_delivery(position, trigger, due=due),
        st.integers(1, 3),
        triggers,
        st.floats(0, 100),
    ),
    st.builds(lambda position, trigger: RemoveDelivery(a_delivery(position, trigger).id), st.integers(1, 3), triggers),
)


# What makes installations is the same for all examples, and each example makes one.
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
@given(st.lists(st.lists(changes, min_size=1, max_size=6), max_size=8))
async def test_the_state_is_what_the_model_says(
    make_harness: Callable[[Path], Harness], puts: list[list[Change]]
) -> None:
    """After each put the state is the model's; a put that breaks a rule leaves it as it was."""
    model = Model()
    with tempfile.TemporaryDirectory() as directory:
        harness = make_harness(Path(directory))
        async with harness.open() as backend:
            await backend.create(BROKER, {})
            for batch in puts:
                model = await _put(backend, model, batch)
                await _compare(backend, model)
        async with harness.open() as backend:
            await _compare(backend, model)


async def _put(backend: Backend, model: Model, batch: list[Change]) -> Model:
    after = model.copy()
    broken = False
    try:
        for change in batch:
            after.apply(change)
    except ValueError:
        broken, after = True, model
    refused = False
    try:
        await backend.state.put(SLOT, await claim_of(backend), batch)
    except ValueError:
        refused = True
    assert refused is broken
    return after


async def _compare(backend: Backend, model: Model) -> None:
    state = await backend.state.load(SLOT)
    assert state.tails == ((model.tail,) if model.tail else ())
    assert {cursor.trigger: cursor for cursor in state.cursors} == model.cursors
    page = await backend.state.list_deliveries()
    # When a forgotten Trigger's deliveries were updated is the clock's affair.
    stored = {
        delivery.id: replace(delivery, updated=0.0) if delivery.reason else delivery for delivery in page.deliveries
    }
    assert stored == model.deliveries
    for trigger in TRIGGERS:
        parked = await backend.state.parked(trigger, BROKER, 0, 100)
        owed = [
            (delivery.due, delivery.id)
            for delivery in model.deliveries.values()
            if delivery.trigger == trigger and delivery.state is DeliveryState.RETRYING
        ]
        assert [(ref.due, ref.id) for ref in parked] == sorted(owed)
