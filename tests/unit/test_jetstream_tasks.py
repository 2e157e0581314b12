"""Work with a limit, and work that outlives its caller."""

from __future__ import annotations

import asyncio

import pytest

from channels.errors import ChannelUnavailable
from channels.jetstream.tasks import Tasks, within


async def test_a_limit_holds_for_what_swallows_a_cancellation() -> None:
    """Work that goes on when it is cancelled is cancelled until it ends."""
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await within(0.0, stubborn())
    assert swallowed == 2


async def test_a_result_within_the_limit() -> None:
    async def quick() -> int:
        return 7

    assert await within(5.0, quick()) == 7


async def test_cancelling_the_result_leaves_the_work_alone() -> None:
    """Work goes on when its caller is cancelled, closing waits for it, and afterwards nothing begins."""
    tasks = Tasks("it")
    go, done = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await go.wait()
        done.set()

    result = tasks.run(work())
    await asyncio.sleep(0)
    result.cancel()
    go.set()
    await tasks.close()
    assert done.is_set()
    with pytest.raises(ChannelUnavailable, match="it is closed"):
        await tasks.run(work())
