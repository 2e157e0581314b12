"""The delivery store behind the operations API: what `kubectl get deadletters` shows."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from channels.errors import ChannelError
from channels.records import DeliveryState, RemoveDelivery, slot_of
from controller.embedded.registry import Page
from controller.embedded.status import ApiError
from controller.objects.dead_letter import dead_letter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from channels.driver import State
    from channels.records import DeliveryRecord
    from controller.objects.kind import JsonObject

PAGE = 500


class DeadLetters:
    """Dead deliveries as objects: a source of the embedded API, with `delete` (discard) and the action `retry`.

    `retry` gives a delivery to the dispatcher, and says False where its Trigger is not served.
    """

    actions = ("retry",)

    def __init__(self, state: State, retry: Callable[[DeliveryRecord], Awaitable[bool]]) -> None:
        self._state = state
        self._retry = retry

    async def list(self, namespace: str, limit: int, continue_: str) -> Page:
        """A page of those of one namespace, or of all (""). Raises ApiError."""
        with _unavailable():
            page = await self._state.list_deliveries(
                state=DeliveryState.DEAD, namespace=namespace, cursor=continue_, limit=min(limit or PAGE, PAGE)
            )
        return Page([dead_letter(record) for record in page.deliveries], page.cursor)

    async def get(self, namespace: str, name: str) -> JsonObject | None:
        """One of them by its id, None where there is none of that name in the namespace. Raises ApiError."""
        record = await self._record(namespace, name)
        return dead_letter(record) if record is not None else None

    async def delete(self, namespace: str, name: str) -> bool:
        """Discard one. False where there is none of that name. Raises ApiError."""
        record = await self._record(namespace, name)
        if record is None:
            return False
        slot = slot_of(record.log, record.partition)
        with _unavailable():
            claims = await self._state.claims()
            await self._state.put(slot, claims[slot], [RemoveDelivery(record.id)])
        return True

    async def act(self, namespace: str, name: str, action: str, body: JsonObject) -> JsonObject | None:
        """Deliver one again, from its first attempt on. None where there is none of that name. Raises ApiError."""
        del action, body
        record = await self._record(namespace, name)
        if record is None:
            return None
        if record.event.ttl <= 0:
            raise ApiError(409, "Conflict", "this is a reply that went round too many times: it can only be discarded")
        with _unavailable():
            if not await self._retry(record):
                raise ApiError(409, "Conflict", f"the Trigger {record.trigger_name} is not served: nobody would get it")
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}

    async def _record(self, namespace: str, name: str) -> DeliveryRecord | None:
        with _unavailable():
            record = await self._state.get_delivery(name)
        if record is None or record.state is not DeliveryState.DEAD or record.trigger_name.namespace != namespace:
            return None
        return record


@contextmanager
def _unavailable() -> Iterator[None]:
    """What a channel cannot do now, an API says as 503."""
    try:
        yield
    except ChannelError as error:
        raise ApiError(503, "ServiceUnavailable", f"the delivery store cannot be used now: {error}") from error
