"""What can go wrong with a channel. Drivers raise nothing else; a library's own error is chained as the cause.

* ChannelError
  + ChannelUnavailable    transient: nothing was stored, try again
    - ChannelFull         no room: room must be made first
  + AppendAmbiguous       may or may not be stored: trying again may store it twice
  + EventTooLarge         permanent: this event never fits
  + PositionExpired       retention has passed this position
  + LogNotFound           no log of that name
  + LogNameTaken          another Broker's log has that name
  + ClaimLost             a newer owner has this slot: the write was refused
  + StoreError            the store as a whole cannot be used
    - StoreLocked         another process holds it
    - StoreDamaged        it is damaged or no store of ours
    - StoreTooNew         a newer Penstock wrote it
"""

from __future__ import annotations

from eventing.errors import EventingError


class ChannelError(EventingError):
    """Root of every error of a channel backend."""


class ChannelUnavailable(ChannelError):
    """Nothing was stored and nothing was read; the same call may succeed later."""


class ChannelFull(ChannelUnavailable):
    """There is no room for more events until settled ones are trimmed or the operator makes room."""


class AppendAmbiguous(ChannelError):
    """The backend did not say whether the events are stored."""


class EventTooLarge(ChannelError):
    """The event is larger than the log takes (`limit` in bytes of head and data together)."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the event has {size} bytes, the channel takes {limit}")
        self.size = size
        self.limit = limit


class PositionExpired(ChannelError):
    """Retention removed records after the position asked for; `first` is the first position that still exists."""

    def __init__(self, first: int) -> None:
        super().__init__(f"the log begins at position {first}")
        self.first = first


class LogNotFound(ChannelError):
    """There is no log of that name."""


class LogNameTaken(ChannelError):
    """The name is in use by the log of another owner."""


class ClaimLost(ChannelError):
    """A newer claim on the slot exists; what this process remembers of it is stale."""


class StoreError(ChannelError):
    """The store cannot be opened, or must not be used any more."""


class StoreLocked(StoreError):
    """Another process holds the store; `holder` describes it."""

    def __init__(self, path: str, holder: str) -> None:
        super().__init__(f"{path} is held by {holder}")
        self.path = path
        self.holder = holder


class StoreDamaged(StoreError):
    """The store is damaged, or it is no store of Penstock."""


class StoreTooNew(StoreError):
    """A newer version of Penstock wrote the store."""
