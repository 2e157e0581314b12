"""One connection to a subscriber: HTTP/1.1 on a raw transport, one request at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from dispatcher.outcome import Outcome, Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from dispatcher.pool import Pool
    from dispatcher.response import ResponseReader
    from dispatcher.target import Origin


class Connection(asyncio.Protocol):
    """A connection of a `Pool`, which it tells when it opens, becomes idle, and is gone."""

    def __init__(self, origin: Origin, pool: Pool, reader: ResponseReader) -> None:
        self.origin = origin
        self._pool = pool
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._done: Callable[[Outcome | None], None] | None = None
        self._answered = 0
        self._began = 0.0
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._unsent = False
        self._spoke_first = False

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, request: bytes, deadline: float) -> Outcome | None:
        """As `begin`, and wait for what comes of it. Cancelling closes the connection."""
        answer: asyncio.Future[Outcome | None] = self._loop.create_future()

        def done(outcome: Outcome | None) -> None:
            # Cancelled, and its task has not run yet.
            if not answer.done():
                answer.set_result(outcome)

        self.begin(request, deadline, done)
        try:
            return await answer
        finally:
            # Not where it was answered: then the pool may have given the connection to the next request by now.
            if self._done is done:
                self.abandon()

    def begin(self, request: bytes, deadline: float, done: Callable[[Outcome | None], None]) -> None:
        """Send `request`; `done` is called with what came of it by `deadline` (on the loop's clock), never before `begin` returns.

        It is given None when the connection had served others and broke before any byte of an answer: the peer had most
        likely closed it while it was idle. By then the connection is idle in the pool, or closed or about to be.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            self._loop.call_soon(done, self._never_began())
            return
        self._reader.reset()
        self._began = self._loop.time()
        self._done = done
        self._watch(deadline)
        transport.write(request)
        # A write that failed at once closes the transport before it could report that anything is left.
        self._unsent = self._unsent or transport.is_closing()

    def abandon(self) -> None:
        """Give up the request that is under way: nobody is told any more."""
        self._done = None
        self.abort()

    def close(self) -> None:
        """Close in good order. Nothing is left to be written."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # So pause_writing and resume_writing tell exactly whether the kernel has taken the whole request. TLS compares
        # with >= where plain sockets compare with >, hence 1.
        self._transport.set_write_buffer_limits(high=1, low=0)
        self._pool.opened(self)

    def pause_writing(self) -> None:
        self._unsent = True

    def resume_writing(self) -> None:
        self._unsent = False

    def data_received(self, data: bytes) -> None:
        if self._done is None:
            # An answer to nothing: most often a 408 before the peer closes an idle connection.
            self._spoke_first = True
            self._drop()
        elif self._reader.feed(data):
            self._finish()

    def eof_received(self) -> None:
        if self._done is not None:
            if self._reader.end():
                self._finish()
            else:
                self._broken("closed the connection")
        self._drop()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None:
            self._broken(f"broke the connection ({exc})" if exc else "closed the connection")
        if self._timer is not None:
            self._timer.cancel()
        self._pool.lost(self)

    # How an exchange ends.

    def _finish(self) -> None:
        reader = self._reader
        outcome = reader.outcome(self._loop.time() - self._began)
        if reader.reusable and not self._unsent and outcome.status is not None:
            self._answered += 1
            self._pool.put(self)
            self._settle(outcome)
        elif outcome.status is not None and not self._unsent:
            self.close()
            self._settle(outcome)
        else:
            self.abort()
            self._settle(outcome)

    def _never_began(self) -> Outcome:
        # Between the connection being made and its first request, the peer had its turn.
        if self._spoke_first:
            detail = f"{self.origin.where} sent something before it was asked: check that this port speaks HTTP"
            return Outcome(Result.BAD_RESPONSE, detail=detail)
        detail = f"{self.origin.where} closed the connection as soon as it was made: see the log of the subscriber"
        return Outcome(Result.RESET_BEFORE, detail=detail)

    def _broken(self, how: str) -> None:
        if self._answered and not self._reader.started:
            self._settle(None)
            return
        where = self.origin.where
        if self._unsent:
            result, when = Result.RESET_BEFORE, "before it took the whole request"
        else:
            result, when = Result.RESET_AFTER, self._reader.progress()
        detail = f"{where} {how} {when}: see the log of the subscriber"
        self._settle(Outcome(result, duration=self._loop.time() - self._began, detail=detail))

    def _watch(self, deadline: float) -> None:
        # One timer serves many requests, as pushing and cancelling one for each is dear: where it rings too early for
        # the request that it finds, it is set again.
        self._deadline = deadline
        timer = self._timer
        if timer is None or timer.when() > deadline:
            if timer is not None:
                timer.cancel()
            self._timer = self._loop.call_at(deadline, self._ring, deadline)

    def _ring(self, moment: float) -> None:
        self._timer = None
        if self._done is None:
            return
        if self._deadline > moment:
            self._watch(self._deadline)
        else:
            self._expire()

    def _expire(self) -> None:
        duration = self._loop.time() - self._began
        where = self.origin.where
        if self._unsent:
            detail = f"{where} did not take the whole request within the timeout of the delivery"
        else:
            waited = f"{duration:.3g} s"
            detail = f"{where} did not finish its answer in {waited}: it stopped {self._reader.progress()}"
        self.abort()
        self._settle(Outcome(Result.TIMEOUT, duration=duration, detail=detail))

    def _settle(self, outcome: Outcome | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            # The last thing that happens here: it may begin the next request on this very connection.
            done(outcome)

    def _drop(self) -> None:
        self._pool.forget(self)
        self.abort()
