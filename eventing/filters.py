"""Trigger filters as values."""

from __future__ import annotations
from typing import Protocol, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Filter(Protocol):
    def matches(self, attributes: Mapping[str, str]) -> bool: ...
