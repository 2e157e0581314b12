"""The JetStream channel in the contract suite: a prefix of its own on a server that all tests share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from channels.channel import ChannelSettings
from channels.registry import open_backend

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from channels.driver import Backend


@dataclass(frozen=True)
class JetStreamHarness:
    """What is under one prefix. `url` names it, `data_dir` is what a process of ours has on its own disk."""

    url: str
    data_dir: Path

    def open(self, settings: ChannelSettings | None = None) -> AbstractAsyncContextManager[Backend]:
        return open_backend(self.url, self.data_dir, settings or ChannelSettings())

    def killed(self) -> JetStreamHarness:
        # The server goes on, whatever becomes of us; the next process has the same directory.
        return self
