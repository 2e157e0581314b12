"""The state of dispatch: each record comes back as it was put, and changes are applied in order, as one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from channels.errors import ClaimLost, EventTooLarge
from channels.records import (
    SLOTS,
    Change,
    CursorRecord,
    DropCursor,
    ForgetTrigger,
    Mark,
    MoveTail,
    RemoveDelivery,
    SlotState,
    StartRecord,
    TailRecord,
    slot_of,
)
from tests.contract.harness import (
    BROKER,
    OTHER,
    SLOT,
    a_cursor,
    a_start,
    a_tail,
    claim_of,
    event,
    events,
    ids,
    put,
    read_all,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from channels.driver import Backend, Log
    from tests.contract.harness import Harness

EMPTY = SlotState((), (), ())


async def test_a_slot_is_empty_at_first(backend: Backend, log: Log) -> None:
    """Where nothing was put, nothing is loaded."""
    assert await backend.state.load(slot_of(log.name, 0)) == EMPTY


async def test_one_process_claims_every_slot(backend: Backend) -> None:
    """With one process, each slot is its own."""
    claims = await backend.state.claims()
    assert sorted(claims) == list(range(SLOTS))
    assert all(claim.slot == slot for slot, claim in claims.items())


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(a_tail("t1", "t2"), id="tail"),
        pytest.param(a_tail(), id="tail without members"),
        pytest.param(replace(a_tail("t1"), mark=Mark(2**40 - 1, 2**32 - 1)), id="tail far out"),
        pytest.param(a_cursor("t1"), id="cursor"),
        pytest.param(a_cursor("t1", *range(1, 200, 2), position=200), id="cursor with pending positions"),
    ],
)
async def test_a_record_comes_back(backend: Backend, log: Log, record: TailRecord | CursorRecord) -> None:
    """Tails and cursors come back as they were put."""
    await put(backend, record)
    state = await backend.state.load(slot_of(log.name, 0))
    assert [*state.tails, *state.cursors] == [record]


async def test_only_the_slot_of_a_log_has_its_state(backend: Backend, log: Log) -> None:
    """The records of a log are loaded with its slot and no other."""
    await backend.state.put_start(a_start("t1", log))
    await put(backend, a_tail("t1"))
    loaded = [slot for slot in range(SLOTS) if await backend.state.load(slot) != EMPTY]
    assert loaded == [SLOT]


TAIL, CURSOR = a_tail("t1", "t2"), a_cursor("t1", 3)


@pytest.mark.parametrize(
    ("changes", "tails", "cursors"),
    [
        pytest.param([TAIL, MoveTail(BROKER, 0, Mark(8, 5))], [replace(TAIL, mark=Mark(8, 5))], [], id="move"),
        pytest.param([MoveTail(BROKER, 0, Mark(8)), TAIL], [TAIL], [], id="move, then set"),
        pytest.param([TAIL, a_tail("t2", "t3", position=6)], [a_tail("t2", "t3", position=6)], [], id="other members"),
        pytest.param([CURSOR, a_cursor("t1", position=20)], [], [a_cursor("t1", position=20)], id="cursor rewritten"),
        pytest.param([TAIL, CURSOR, DropCursor("t1", BROKER, 0)], [TAIL], [], id="dropped"),
        pytest.param([TAIL, DropCursor("t1", BROKER, 0), CURSOR], [TAIL], [CURSOR], id="dropped, then set"),
        pytest.param(
            [TAIL, CURSOR, a_cursor("t2"), ForgetTrigger("t1", BROKER)], [TAIL], [a_cursor("t2")], id="forgotten"
        ),
        pytest.param([ForgetTrigger("t1", BROKER), CURSOR], [], [CURSOR], id="forgotten, then set"),
    ],
)
async def test_changes_are_applied_in_order(
    backend: Backend,
    log: Log,
    changes: Sequence[Change],
    tails: Sequence[TailRecord],
    cursors: Sequence[CursorRecord],
) -> None:
    """A later change of one put works on what an earlier one left."""
    if isinstance(changes[0], MoveTail):
        await put(backend, TAIL)
    await put(backend, *changes)
    state = await backend.state.load(slot_of(log.name, 0))
    assert (list(state.tails), list(state.cursors)) == (tails, cursors)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(MoveTail(BROKER, 0, Mark(1)), id="a tail that does not exist"),
        pytest.param(DropCursor("t9", BROKER, 0), id="a Trigger that is not at the tail"),
        pytest.param(a_cursor("t1", log=OTHER), id="a record of another slot"),
    ],
)
async def test_a_broken_rule_changes_nothing(backend: Backend, log: Log, broken: Change) -> None:
    """A put with a change that breaks a rule of the contract is refused whole; puts beside it are not affected."""
    await backend.create(OTHER, {})
    good = asyncio.create_task(put(backend, a_cursor("t2")))
    bad = asyncio.create_task(put(backend, a_cursor("t1", 3), broken))
    with pytest.raises(ValueError, match=type(broken).__name__):
        await bad
    await good
    assert (await backend.state.load(slot_of(log.name, 0))).cursors == (a_cursor("t2"),)


async def test_many_members(backend: Backend, log: Log) -> None:
    """A tail with thousands of members gains and loses one."""
    crowd = [f"trigger-{number}" for number in range(3000)]
    await put(backend, a_tail(*crowd))
    await put(backend, a_tail(*crowd[1:], "new"))
    (tail,) = (await backend.state.load(slot_of(log.name, 0))).tails
    assert tail.members == {*crowd[1:], "new"}


async def test_a_start_is_written_once(backend: Backend, log: Log) -> None:
    """The first start counts; a later one of the same incarnation is answered with it."""
    first = a_start("t1", log, position=3)
    assert await backend.state.get_start("t1", BROKER) is None
    assert await backend.state.put_start(first) == first
    assert await backend.state.put_start(a_start("t1", log, position=8)) == first
    assert await backend.state.get_start("t1", BROKER) == first
    assert (await backend.state.load(SLOT)).starts == (first,)


async def test_a_start_of_another_incarnation_is_replaced(backend: Backend, log: Log) -> None:
    """A start that belongs to an earlier log of the Broker does not count."""
    await backend.state.put_start(StartRecord("t1", BROKER, "an earlier log", {0: 999}))
    now = a_start("t1", log)
    assert await backend.state.put_start(now) == now
    assert await backend.state.get_start("t1", BROKER) == now


async def test_concurrent_starts(backend: Backend, log: Log) -> None:
    """However many write a start at once, all are told the same."""
    told = await asyncio.gather(*(backend.state.put_start(a_start("t1", log, position=p)) for p in range(10)))
    assert len({start.positions[0] for start in told}) == 1
    assert await backend.state.get_start("t1", BROKER) == told[0]


async def test_starts_have_many_partitions(backend: Backend, log: Log) -> None:
    """A start keeps one position for each partition it names."""
    start = StartRecord("t1", BROKER, log.incarnation, {0: 0, 7: 2**39})
    await backend.state.put_start(start)
    assert await backend.state.get_start("t1", BROKER) == start


async def test_forgetting_a_trigger_removes_its_start(backend: Backend, log: Log) -> None:
    """A Trigger that was deleted has no start any more, others keep theirs."""
    await backend.state.put_start(a_start("t1", log))
    other = await backend.state.put_start(a_start("t2", log))
    await put(backend, ForgetTrigger("t1", BROKER))
    assert await backend.state.get_start("t1", BROKER) is None
    assert (await backend.state.load(SLOT)).starts == (other,)


async def test_an_old_claim_is_refused(harness: Harness) -> None:
    """Who claimed before somebody else did writes nothing, neither state nor replies."""
    async with harness.open() as backend:
        await backend.create(BROKER, {})
        old = await claim_of(backend)
    async with harness.open() as backend:
        log = await backend.open(BROKER)
        assert (await claim_of(backend)).number > old.number
        with pytest.raises(ClaimLost):
            await backend.state.put(SLOT, old, [a_tail("t1")])
        with pytest.raises(ClaimLost):
            await log.append_settling(events(1), SLOT, old, [a_tail("t1")])
        assert await backend.state.load(SLOT) == EMPTY
        assert (await log.stats()).records == 0
        await put(backend, a_tail("t1"))


async def test_replies_and_what_they_settle(backend: Backend, log: Log) -> None:
    """Replies are appended and their changes applied; either list may be empty."""
    claim = await claim_of(backend)
    places = await log.append_settling(events(1, 2), SLOT, claim, [a_tail("t1"), a_cursor("t2")])
    assert [record.position for record in await read_all(log, 0)] == [place.position for place in places]
    assert list(await log.append_settling([], SLOT, claim, [MoveTail(BROKER, 0, Mark(7))])) == []
    await log.append_settling(events(3), SLOT, claim, [])
    state = await backend.state.load(SLOT)
    assert ids(await read_all(log, 0)) == [1, 2, 3]
    assert state.tails == (replace(a_tail("t1"), mark=Mark(7)),)


@pytest.mark.parametrize(
    ("reply", "changes", "error"),
    [
        pytest.param(1, [a_cursor("t1"), MoveTail(BROKER, 0, Mark(1))], ValueError, id="a broken rule"),
        pytest.param(2_000_000, [a_cursor("t1")], EventTooLarge, id="a reply that is too large"),
    ],
)
async def test_replies_and_changes_are_one(
    backend: Backend, log: Log, reply: int, changes: Sequence[Change], error: type[Exception]
) -> None:
    """Where the changes cannot be applied the replies are not stored, and the other way round."""
    with pytest.raises(error):
        await log.append_settling([event(1, size=reply)], SLOT, await claim_of(backend), changes)
    assert (await log.stats()).records == 0
    assert await backend.state.load(SLOT) == EMPTY


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_a_cancelled_put_is_all_or_nothing(backend: Backend, log: Log, turns: int) -> None:
    """A put that is cancelled applied all of its changes, or none."""
    task = asyncio.create_task(put(backend, a_tail("t1"), a_cursor("t1", 3)))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await put(backend, RemoveDelivery("none"))
    state: Any = await backend.state.load(slot_of(log.name, 0))
    assert (len(state.tails), len(state.cursors)) in ((0, 0), (1, 1))
