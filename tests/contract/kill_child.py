"""Appends to a store until it is killed, and prints what was acknowledged: `number position` for each event.

Event `number` is appended together with a cursor whose pending position is that number, so that the two can be compared.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from channels.channel import ChannelSettings
from channels.registry import open_backend
from tests.contract.harness import BROKER, SLOT, a_cursor, claim_of, event

WRITERS = 8


async def main(data_dir: Path) -> None:
    numbers = itertools.count()
    async with open_backend("sqlite:", data_dir, ChannelSettings()) as backend:
        log = await backend.create(BROKER, {})
        claim = await claim_of(backend)

        async def write(writer: int) -> None:
            for number in numbers:
                sent = [event(number)]
                if number % 2:
                    cursor = a_cursor(f"writer-{writer}", number)
                    (place,) = await log.append_settling(sent, SLOT, claim, [cursor])
                else:
                    (place,) = await log.append(sent)
                print(number, place.position, writer, flush=True)  # noqa: T201 - what the test reads

        await asyncio.gather(*(write(writer) for writer in range(WRITERS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
