"""The verbs on resources that are not stored: each kind's own source answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.embedded import status
from controller.embedded.calls import read_json
from controller.embedded.registry import ActingSource, DeletableSource
from controller.embedded.resources import Answer, present, present_list, selection_of
from controller.embedded.status import bad_request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from controller.embedded.calls import Call
    from controller.embedded.registry import Registry


class Sources:
    """Reads and deletes what the sources have."""

    def __init__(self, registry: Registry, clock: Callable[[], datetime]) -> None:
        self._registry = registry
        self._clock = clock

    def handler(self, call: Call) -> Callable[[Call], Awaitable[Answer]]:
        """Raises ApiError 405 for a verb that the source does not have."""
        if call.subresource and call.method == "POST":
            return self._act
        if call.method == "GET" and not call.subresource and not call.flag("watch"):
            return self._get if call.name else self._list
        if call.method == "DELETE" and call.name and not call.subresource:
            return self._delete
        raise status.method_not_allowed()

    async def _get(self, call: Call) -> Answer:
        value = await self._registry.sources[call.kind.resource].get(call.namespace, call.name)
        if value is None:
            raise status.not_found(call.kind, call.name)
        return Answer(present(call, value, self._clock()))

    async def _list(self, call: Call) -> Answer:
        selection = selection_of(call)
        source = self._registry.sources[call.kind.resource]
        page = await source.list(call.namespace, call.number("limit"), call.query.get("continue", ""))
        metadata = {"resourceVersion": page.revision}
        if page.next:
            metadata["continue"] = page.next
        items = [value for value in page.items if selection.matches(value)]
        return Answer(present_list(call, items, metadata, self._clock()))

    async def _delete(self, call: Call) -> Answer:
        source = self._registry.sources[call.kind.resource]
        if not isinstance(source, DeletableSource):
            raise status.method_not_allowed()
        if not call.dry_run and not await source.delete(call.namespace, call.name):
            raise status.not_found(call.kind, call.name)
        return Answer(status.success(call.kind, call.name, ""))

    async def _act(self, call: Call) -> Answer:
        source = self._registry.sources[call.kind.resource]
        if not isinstance(source, ActingSource):
            raise status.method_not_allowed()
        body = read_json(call.body).value if call.body.strip() else {}
        if not isinstance(body, dict):
            raise bad_request("the body must be a JSON object")
        value = await source.act(call.namespace, call.name, call.subresource, body)
        if value is None:
            raise status.not_found(call.kind, call.name)
        return Answer(present(call, value, self._clock()), 201)
