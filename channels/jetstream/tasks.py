"""Work that goes on when whoever asked for it is cancelled, and that is finished before the backend closes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

from channels.errors import ChannelError, ChannelUnavailable

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

_LAST: Final = 5.0
"""Seconds that work under way has when the backend closes: each of its requests has a shorter limit."""

_AGAIN: Final = 0.2
"""Seconds after which a task that did not heed its cancellation is cancelled once more."""


class Tasks:
    """The tasks of one backend, from its opening to `close`."""

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def check(self) -> None:
        """Raise ChannelUnavailable once the backend is closed."""
        if self._closed:
            raise ChannelUnavailable(f"{self._shown} is closed")

    def run(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Begin with `work`. Cancelling the result leaves the work alone."""
        try:
            self.check()
        except ChannelUnavailable as error:
            work.close()
            return refused(error)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return asyncio.shield(task)

    async def close(self) -> None:
        """Begin nothing more, and wait for what was begun."""
        self._closed = True
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_LAST)
            for task in late:
                task.cancel()


def refused(error: ChannelError) -> asyncio.Future[Any]:
    """A result that is this error already."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    return future


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled after a time until it ends. Raises TimeoutError then.

    The client waits with `wait_for`, which before Python 3.12 swallows a cancellation that comes at a bad moment, and it
    goes on with its attempts for ever: one cancellation is not enough.
    """
    task = asyncio.get_running_loop().create_task(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_AGAIN)
    if not done:
        raise TimeoutError
    return task.result()
