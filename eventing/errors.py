"""The errors of Penstock's data plane.

* EventingError
  + InvalidEvent         the request or reply is no acceptable CloudEvent
  + InvalidFilter        a Trigger's filter cannot be compiled
  + InvalidDelivery      a delivery spec cannot be used
  + ChannelError         (`channels.driver` has its branch)

A failed *delivery* is never an exception: it is an `Outcome` value.
"""

from __future__ import annotations


class EventingError(Exception):
    """Root of every error that Penstock raises about events and their way."""


class InvalidEvent(EventingError):
    """A message is not an acceptable CloudEvent.

    `attribute` names the context attribute at fault (empty where the message as a whole is), and `detail` says in one
    sentence what is wrong and how to mend it. `index` counts from 0 and is set for one of the events of a batch.
    """

    def __init__(self, attribute: str, detail: str, index: int | None = None) -> None:
        place = "" if index is None else f"event {index} of the batch (the first is 0): "
        super().__init__(place + (f"{attribute}: {detail}" if attribute else detail))
        self.attribute = attribute
        self.detail = detail
        self.index = index

    def in_batch(self, index: int) -> InvalidEvent:
        """The same error, of the event at `index` of a batch."""
        return InvalidEvent(self.attribute, self.detail, index)


class InvalidFilter(EventingError):
    """A filter cannot be compiled. `path` leads to the fault from the Trigger's root, e.g. `spec.filters[0].exact`."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{detail}: {path}" if path else detail)
        self.path = path
        self.detail = detail


class InvalidDelivery(EventingError):
    """A delivery spec cannot be used. `path` leads to the field from the object's root, e.g. `spec.delivery.retry`."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{detail}: {path}")
        self.path = path
        self.detail = detail
