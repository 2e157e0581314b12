"""The delivery store behind the operations API: what `kubectl get deadletters` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from channels.records import DeliveryState
from controller.embedded.registry import Page
from controller.objects.dead_letter import dead_letter

if TYPE_CHECKING:
    from channels.driver import State
    from controller.objects.kind import JsonObject

PAGE = 500


class DeadLetters:
    """Dead deliveries as objects: a `ResourceSource` of the embedded API."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def list(self, namespace: str, limit: int, continue_: str) -> Page:
        """A page of those of one namespace, or of all (""). Raises ChannelError."""
        page = await self._state.list_deliveries(
            state=DeliveryState.DEAD, namespace=namespace, cursor=continue_, limit=min(limit or PAGE, PAGE)
        )
        return Page([dead_letter(record) for record in page.deliveries], page.cursor)

    async def get(self, namespace: str, name: str) -> JsonObject | None:
        """One of them by its id, None where there is none of that name in the namespace. Raises ChannelError."""
        record = await self._state.get_delivery(name)
        if record is None or record.state is not DeliveryState.DEAD or record.trigger_name.namespace != namespace:
            return None
        return dead_letter(record)
