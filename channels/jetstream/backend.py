"""Opens the channel on a NATS server, and holds what its logs and its state share."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from channels.errors import ChannelError, ChannelUnavailable, LogNotFound, StoreError
from channels.jetstream.address import parse_address
from channels.jetstream.bucket import Bucket, Condition
from channels.jetstream.claims import Claims
from channels.jetstream.connection import connected
from channels.jetstream.errors import ConditionFailed
from channels.jetstream.follower import Memory
from channels.jetstream.log import JetStreamLog, Shared
from channels.jetstream.names import stream_name, subject_root
from channels.jetstream.state import JetStreamState
from channels.jetstream.stream import find_log, list_logs, make_log, settings_of
from channels.jetstream.tasks import Tasks
from channels.lock import LOCK, locked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from channels.channel import ChannelSettings
    from channels.jetstream.address import Address
    from channels.jetstream.connection import Connection
    from channels.jetstream.stream import StreamRow
    from channels.records import LogName

HOME: Final = "home"
"""The key of the bucket that says which installation the prefix belongs to."""

PROCESS: Final = "nats-process"
"""The file in the data directory with the id of the process that owns it: the next one takes over from it at once."""


@asynccontextmanager
async def open_store(url: str, data_dir: Path, settings: ChannelSettings) -> AsyncIterator[JetStreamBackend]:
    """The channel that `url` names. Raises StoreLocked, StoreTooNew, or StoreError with what must be mended.

    Leaving it finishes what was begun, and gives the slots back.
    """
    address = parse_address(url)
    async with AsyncExitStack() as stack:
        stack.enter_context(locked(data_dir / LOCK))
        connection = await stack.enter_async_context(connected(address))
        bucket = Bucket(connection, address.prefix)
        process = _process_id(data_dir)
        claims = Claims(bucket, process, settings.lease)
        try:
            await bucket.prepare(address.replicas)
            if settings.home is not None:
                await _move_in(bucket, address, settings.home or process)
            if settings.dispatches:
                await claims.round()
        except StoreError:
            raise
        except ChannelError as error:
            raise StoreError(f"--channel {address.shown}: {error}") from error
        tasks = Tasks(address.shown)
        backend = JetStreamBackend(connection, bucket, claims, tasks, settings)
        if settings.dispatches:
            renewal = asyncio.get_running_loop().create_task(claims.run())
            renewal.add_done_callback(claims.ended)
            stack.push_async_callback(claims.close)
            stack.callback(renewal.cancel)
        stack.push_async_callback(tasks.close)
        stack.callback(backend.end, ChannelUnavailable(f"{address.shown} is closed"))
        yield backend


class JetStreamBackend:
    """Implements `channels.driver.Backend`; made by `open_store`."""

    def __init__(
        self, connection: Connection, bucket: Bucket, claims: Claims, tasks: Tasks, settings: ChannelSettings
    ) -> None:
        self._connection = connection
        self._prefix = connection.address.prefix
        self._tasks = tasks
        self._state = JetStreamState(bucket, claims, tasks, settings, self._find)
        self._shared = Shared(connection, self._state, bucket, tasks, Memory(settings.ring_bytes), settings)
        self._logs: dict[LogName, JetStreamLog] = {}

    @property
    def state(self) -> JetStreamState:
        return self._state

    async def create(self, name: LogName, config: Mapping[str, str]) -> JetStreamLog:
        self._tasks.check()
        settings = settings_of(config, self._connection.address.replicas)
        return self._log(await make_log(self._connection, self._prefix, name, settings))

    async def open(self, name: LogName) -> JetStreamLog:
        self._tasks.check()
        return self._logs.get(name) or self._log(await self._find(name))

    async def delete(self, name: LogName) -> None:
        self._tasks.check()
        log = self._logs.pop(name, None)
        if log is not None:
            log.end(LogNotFound(f"the log of the Broker {name.namespace}/{name.name} (uid {name.owner}) was deleted"))
        # It may have been removed before what is remembered of it.
        with suppress(LogNotFound):
            await self._connection.api(f"STREAM.DELETE.{stream_name(self._prefix, name)}", wrote=True)
        await self._state.delete_log(name)

    async def list(self) -> Sequence[LogName]:
        self._tasks.check()
        return [row.name for row in await list_logs(self._connection, subject_root(self._prefix))]

    def end(self, error: ChannelUnavailable) -> None:
        """The backend closes: nobody may wait for news any more."""
        for log in self._logs.values():
            log.end(error)

    async def _find(self, name: LogName) -> StreamRow:
        return await find_log(self._connection, self._prefix, name)

    def _log(self, row: StreamRow) -> JetStreamLog:
        known = self._logs.get(row.name)
        if known is not None and known.incarnation == row.incarnation:
            known.row = row
            return known
        if known is not None:
            known.end(LogNotFound(f"the stream {row.stream} was removed and made again"))
        self._logs[row.name] = JetStreamLog(row, self._shared)
        return self._logs[row.name]


async def _move_in(bucket: Bucket, address: Address, home: str) -> None:
    """Take the prefix for this installation. Raises StoreError where another one has it."""
    with suppress(ConditionFailed):
        await bucket.put(HOME, home.encode(), condition=Condition(HOME, 0))
    found = await bucket.get(HOME)
    if found is None or found.value != home.encode():
        raise StoreError(
            f"--channel {address.shown}: the prefix {address.prefix!r} is another installation's, whose Brokers are not ours: add a "
            f"prefix of your own (nats://HOST:PORT/NAME), or if its data directory is lost, remove the key {HOME!r} of the bucket"
        )


def _process_id(data_dir: Path) -> str:
    """The id of the process that owns the data directory, the same whenever it starts again. Raises StoreError."""
    path = data_dir / PROCESS
    try:
        if not path.exists():
            path.write_text(secrets.token_hex(8))
        return path.read_text()
    except OSError as error:
        raise StoreError(f"cannot keep {path} ({error.strerror}): make the directory writable for this user") from error
