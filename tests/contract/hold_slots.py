"""A process that opens a channel, says so, and holds its slots until it is killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from channels.channel import ChannelSettings
from channels.registry import open_backend


async def main(url: str, data_dir: str, lease: str) -> None:
    async with open_backend(url, Path(data_dir), ChannelSettings(home="tests", lease=float(lease))) as backend:
        print(len(await backend.state.claims()), flush=True)  # noqa: T201 - what the test reads
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
