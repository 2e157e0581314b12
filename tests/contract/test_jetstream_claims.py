"""Several processes on one NATS: who has which slots, who takes over, and who may not write any more."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from channels.channel import ChannelSettings
from channels.errors import ClaimLost
from channels.records import SLOTS
from channels.registry import open_backend
from tests.contract.harness import BROKER, SLOT, a_cursor, a_tail, claim_of, events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    from channels.driver import Backend

ROOT = Path(__file__).parents[2]
LEASE = 1.0


def opened(url: str, data_dir: Path) -> AbstractAsyncContextManager[Backend]:
    return open_backend(url, data_dir, ChannelSettings(home="tests", lease=LEASE))


@contextlib.asynccontextmanager
async def holder(url: str, data_dir: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process that has all slots; it is killed at the end, if not before."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.contract.hold_slots", url, str(data_dir), str(LEASE)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert child.stdout is not None
        assert int(await child.stdout.readline()) == SLOTS
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def until(condition: Callable[[], Coroutine[None, None, bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - what is waited for happens on the server
            await asyncio.sleep(0.02)


async def test_a_second_process_gets_its_share(jetstream_url: str, tmp_path: Path) -> None:
    """A process that joins gets about half of the slots, each once its owner has given it back; one that leaves returns them."""
    async with opened(jetstream_url, tmp_path / "a") as first:
        before = dict(await first.state.claims())
        assert len(before) == SLOTS
        async with opened(jetstream_url, tmp_path / "b") as second:

            async def shared() -> bool:
                kept = await first.state.claims()
                for slot in before.keys() - kept.keys():
                    await first.state.release(slot)
                    del before[slot]
                theirs = await second.state.claims()
                assert not kept.keys() & theirs.keys()
                return len(kept) < SLOTS and len(kept) + len(theirs) == SLOTS

            await until(shared)
            assert SLOTS / 4 < len(await first.state.claims()) < SLOTS * 3 / 4

        async def returned() -> bool:
            return len(await first.state.claims()) == SLOTS

        await until(returned)


async def test_a_slot_is_not_taken_before_it_is_given_back(jetstream_url: str, tmp_path: Path) -> None:
    """As long as its owner lives and has work under it, nobody else has a slot."""
    async with opened(jetstream_url, tmp_path / "a") as first:
        before = await first.state.claims()
        async with opened(jetstream_url, tmp_path / "b") as second:

            async def left() -> bool:
                return len(await first.state.claims()) < SLOTS

            await until(left)
            gone = before.keys() - (await first.state.claims()).keys()
            slot = min(gone)
            await first.state.put(slot, before[slot], [])
            assert slot not in await second.state.claims()
            await first.state.release(slot)

            async def taken() -> bool:
                return slot in await second.state.claims()

            await until(taken)
            with pytest.raises(ClaimLost):
                await first.state.put(slot, before[slot], [])


async def test_a_killed_process_is_followed_when_its_lease_has_run_out(jetstream_url: str, tmp_path: Path) -> None:
    """What a killed process had goes to another one, on another machine, by itself."""
    async with holder(jetstream_url, tmp_path / "a") as child, opened(jetstream_url, tmp_path / "b") as second:
        assert not await second.state.claims()
        child.kill()

        async def taken() -> bool:
            return len(await second.state.claims()) == SLOTS

        await until(taken)


async def test_a_process_that_starts_again_waits_for_no_lease(jetstream_url: str, tmp_path: Path) -> None:
    """Whoever has the data directory has the slots of the one that had it before, at once."""
    async with holder(jetstream_url, tmp_path / "a") as child:
        child.kill()
        await child.wait()
        async with opened(jetstream_url, tmp_path / "a") as again:
            assert len(await again.state.claims()) == SLOTS


async def test_a_process_that_was_stopped_is_not_heard_any_more(jetstream_url: str, tmp_path: Path) -> None:
    """A write under a claim that another process has by now changes nothing: no state, and no reply of what it settles."""
    async with opened(jetstream_url, tmp_path / "a") as first:
        log = await first.create(BROKER, {})
        old = await claim_of(first)
        await first.state.put(SLOT, old, [a_tail("t1")])
        # A copy of the directory is the same process to others: it takes the slots, as after a pause that was too long.
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "nats-process").write_text((tmp_path / "a" / "nats-process").read_text())
        async with opened(jetstream_url, tmp_path / "b") as second:
            assert (await claim_of(second)).number > old.number
            with pytest.raises(ClaimLost):
                await first.state.put(SLOT, old, [a_cursor("t1", 3)])
            with pytest.raises(ClaimLost):
                await log.append_settling(events(1), SLOT, old, [a_tail("t2")])
            state = await second.state.load(SLOT)
            assert (state.tails, state.cursors) == ((a_tail("t1"),), ())
            assert (await log.stats()).records == 0


async def test_two_copies_of_a_directory_are_two_processes(jetstream_url: str, tmp_path: Path) -> None:
    """A process whose id another one uses too takes an id of its own, and both get their share."""
    (tmp_path / "b").mkdir()
    async with opened(jetstream_url, tmp_path / "a") as first:
        (tmp_path / "b" / "nats-process").write_text((tmp_path / "a" / "nats-process").read_text())
        async with opened(jetstream_url, tmp_path / "b") as second:
            owned = dict(await second.state.claims())

            async def shared() -> bool:
                kept = await second.state.claims()
                for slot in owned.keys() - kept.keys():
                    await second.state.release(slot)
                    del owned[slot]
                theirs = await first.state.claims()
                return len(theirs) > 0 and len(kept) + len(theirs) == SLOTS

            await until(shared)
