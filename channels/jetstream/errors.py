"""One of our errors for each of the library's, decided here and nowhere else."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import nats.errors
from nats.js.errors import APIError, NoStreamResponseError

from channels.errors import (
    AppendAmbiguous,
    ChannelError,
    ChannelFull,
    ChannelUnavailable,
    LogNotFound,
    StoreError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAM_NOT_FOUND: Final = 10059
NAME_IN_USE: Final = 10058
WRONG_LAST_SEQUENCE: Final = frozenset({10071, 10164})
"""The second one is a cluster's, where another write of the key is under way."""

NO_MESSAGE: Final = 10037
_NO_ROOM: Final = frozenset({10002, 10023, 10047, 10077})
"""Resources of the account, the server, the storage; the limits of the stream."""


class ConditionFailed(ChannelError):
    """What was written was bound to the last revision of a key, and that was another one: nothing was stored."""


class NoMessage(ChannelError):
    """There is no message of that subject."""


class NameInUse(ChannelError):
    """There is a stream of that name, with another configuration."""


@contextmanager
def mapped(what: str, *, wrote: bool = False) -> Iterator[None]:
    """Turn errors of the library into ours. `wrote` says that without an answer the change may have been made."""
    try:
        yield
    except (nats.errors.Error, TimeoutError) as error:
        raise channel_error(error, what, wrote=wrote) from error


def channel_error(error: nats.errors.Error | TimeoutError, what: str, *, wrote: bool = False) -> ChannelError:
    """What such an error means for who wanted `what`."""
    if isinstance(error, APIError):
        return _answered(error, what)
    if isinstance(error, nats.errors.MaxPayloadError):
        return StoreError(f"{what}: it is larger than max_payload of the NATS server: raise that")
    if isinstance(error, NoStreamResponseError | nats.errors.NoRespondersError):
        return ChannelUnavailable(f"{what}: JetStream does not answer: is it enabled, has the stream a leader?")
    if isinstance(error, nats.errors.OutboundBufferLimitError | nats.errors.ConnectionReconnectingError):
        return ChannelUnavailable(f"{what}: there is no connection to NATS")
    lost = isinstance(error, nats.errors.StaleConnectionError)
    unanswered = lost or isinstance(error, TimeoutError)
    detail = "the connection to NATS was lost" if lost else "NATS did not answer in time" if unanswered else str(error)
    return (AppendAmbiguous if unanswered and wrote else ChannelUnavailable)(f"{what}: {detail}")


def _answered(error: APIError, what: str) -> ChannelError:
    text = f"{what}: NATS answered {error.code}: {error.description} (err_code {error.err_code})"
    if error.err_code == STREAM_NOT_FOUND:
        return LogNotFound(text)
    if error.err_code in WRONG_LAST_SEQUENCE:
        return ConditionFailed(text)
    if error.err_code == NO_MESSAGE:
        return NoMessage(text)
    if error.err_code == NAME_IN_USE:
        return NameInUse(text)
    if error.err_code in _NO_ROOM:
        return ChannelFull(f"{text}: raise the limit of the stream, the account or the server, or shorten retention")
    if error.code is not None and error.code >= 500:
        return ChannelUnavailable(text)
    return StoreError(text)
