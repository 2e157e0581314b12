"""The delivery store: parked and dead deliveries, found by id, by Trigger and in pages."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from channels.channel import ChannelSettings
from channels.records import DeliveryState, ForgetTrigger, LogName, ParkedRef, RemoveDelivery, slot_of
from tests.contract.harness import BROKER, OTHER, a_delivery, put

if TYPE_CHECKING:
    from channels.driver import Backend, Log
    from channels.records import DeliveryRecord
    from tests.contract.harness import Harness

PARKED = a_delivery(4)
DEAD = replace(a_delivery(5), state=DeliveryState.DEAD, reason="404 for 10 attempts")


@pytest.mark.parametrize(
    "delivery",
    [
        pytest.param(PARKED, id="parked"),
        pytest.param(DEAD, id="dead"),
        pytest.param(replace(PARKED, attempts=(), failure=None, tries=0), id="never tried"),
    ],
)
async def test_a_delivery_comes_back(backend: Backend, log: Log, delivery: DeliveryRecord) -> None:
    """A delivery comes back in every field, its event byte for byte."""
    await put(backend, delivery)
    assert await backend.state.get_delivery(delivery.id) == delivery
    assert delivery.log == log.name


async def test_writing_twice_is_writing_once(backend: Backend, log: Log) -> None:
    """The same id names one delivery, and the latest writing counts."""
    await put(backend, PARKED)
    later = replace(PARKED, due=99.0, tries=4)
    await put(backend, later)
    assert await backend.state.get_delivery(PARKED.id) == later
    assert await backend.state.parked("t1", log.name, 0, 10) == [ParkedRef(PARKED.id, 99.0, PARKED.event.size)]


@pytest.mark.usefixtures("log")
async def test_remove(backend: Backend) -> None:
    """A removed delivery is gone; removing it again is nothing; put again it is there."""
    await put(backend, PARKED)
    await put(backend, RemoveDelivery(PARKED.id))
    assert await backend.state.get_delivery(PARKED.id) is None
    await put(backend, RemoveDelivery(PARKED.id), PARKED)
    assert await backend.state.get_delivery(PARKED.id) == PARKED


async def test_parked_are_in_the_order_in_which_they_are_due(backend: Backend, log: Log) -> None:
    """The parked deliveries of a Trigger come in due order, limited; dead ones and other Triggers' do not come."""
    dues = {11: 5.0, 12: 1.0, 13: 9.0, 14: 3.0}
    mine = [a_delivery(position, due=due) for position, due in dues.items()]
    await put(backend, *mine, DEAD, a_delivery(15, "t2", due=0.0))
    ordered = [
        ParkedRef(delivery.id, delivery.due, delivery.event.size) for delivery in sorted(mine, key=lambda d: d.due)
    ]
    assert list(await backend.state.parked("t1", log.name, 0, 10)) == ordered
    assert list(await backend.state.parked("t1", log.name, 0, 2)) == ordered[:2]
    assert list(await backend.state.parked("t1", log.name, 1, 10)) == []
    assert list(await backend.state.parked("t1", OTHER, 0, 10)) == []


async def test_forgetting_a_trigger_makes_its_deliveries_dead(backend: Backend, log: Log) -> None:
    """What a deleted Trigger still owed is dead with that reason; what was dead keeps its own."""
    await put(backend, PARKED, DEAD, a_delivery(6, "t2"))
    await put(backend, ForgetTrigger("t1", log.name))
    forgotten = await backend.state.get_delivery(PARKED.id)
    assert forgotten is not None
    assert replace(forgotten, updated=PARKED.updated) == replace(
        PARKED, state=DeliveryState.DEAD, reason="the Trigger was deleted"
    )
    assert await backend.state.get_delivery(DEAD.id) == DEAD
    assert list(await backend.state.parked("t1", log.name, 0, 10)) == []
    assert len(await backend.state.parked("t2", log.name, 0, 10)) == 1


async def _list_all(backend: Backend, limit: int, **wanted: object) -> list[str]:
    """The ids of all pages, and a look at each page."""
    found: list[str] = []
    cursor = ""
    while True:
        page = await backend.state.list_deliveries(cursor=cursor, limit=limit, **wanted)  # type: ignore[arg-type]  # the filters of the parametrisation
        assert len(page.deliveries) <= limit
        found += [delivery.id for delivery in page.deliveries]
        if not page.cursor:
            return found
        assert page.deliveries
        cursor = page.cursor


ELSEWHERE = LogName("elsewhere", "default", "uid-7")


@pytest.mark.parametrize("limit", [1, 3, 6, 100])
@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        pytest.param({}, 6, id="all"),
        pytest.param({"state": DeliveryState.DEAD}, 2, id="by state"),
        pytest.param({"namespace": "elsewhere"}, 2, id="by namespace"),
        pytest.param({"namespace": "shop", "state": DeliveryState.RETRYING}, 3, id="by both"),
        pytest.param({"namespace": "nowhere"}, 0, id="none"),
    ],
)
async def test_list(backend: Backend, wanted: dict[str, object], count: int, limit: int) -> None:
    """Pages in the order of the ids lead through all that match, each once."""
    here = [a_delivery(position) for position in (1, 2, 3)] + [DEAD]
    there = [a_delivery(8, log=ELSEWHERE), replace(DEAD, id="0" * 32, log=ELSEWHERE)]
    for log, deliveries in ((BROKER, here), (ELSEWHERE, there)):
        slot = slot_of(log, 0)
        await backend.state.put(slot, (await backend.state.claims())[slot], deliveries)
    found = await _list_all(backend, limit, **wanted)
    assert found == sorted(set(found))
    assert len(found) == count


async def test_large_deliveries_make_short_pages(harness: Harness) -> None:
    """A page is bounded in bytes too, and still leads to all."""
    async with harness.open(ChannelSettings(page_bytes=1)) as backend:
        await put(backend, *(a_delivery(position) for position in range(5)))
        assert len(await _list_all(backend, 100)) == 5
