"""Tells what lanes are doing, some seconds after it changed: a status is for people, and each one costs a write."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dispatcher.services import LaneReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from channels.records import Mark
    from dispatcher.lane import Lane
    from dispatcher.services import Services


class Reports:
    """One timer for all lanes of a partition, none while nothing changes. `tail` is where the tail reader stands."""

    def __init__(self, services: Services, tail: Callable[[], Mark]) -> None:
        self._services = services
        self._tail = tail
        self._changed: dict[Lane, None] = {}
        self._told: dict[str, LaneReport] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def soon(self, lane: Lane) -> None:
        """Something about the lane changed."""
        self._changed[lane] = None
        if self._timer is None and not self._stopped and self._services.on_lane is not None:
            self._timer = asyncio.get_running_loop().call_later(self._services.settings.report_interval, self._tell)

    def stop(self) -> None:
        """Tell nothing any more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _tell(self) -> None:
        self._timer = None
        lanes, self._changed = self._changed, {}
        for lane in lanes:
            uid = lane.route.uid
            report = lane.report(self._tail())
            if lane.closed:
                self._told.pop(uid, None)
            elif report != self._told.get(uid, LaneReport()):
                self._told[uid] = report
                if self._services.on_lane is not None:
                    self._services.on_lane(uid, report)
            if not lane.closed and report != LaneReport(skipped=report.skipped):
                # It is not done yet: look again.
                self.soon(lane)
