"""RFC 3339 times, as CloudEvents and Kubernetes write them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


def rfc3339(unix: float) -> str:
    """A Unix time in seconds as UTC with microseconds: `2026-01-02T03:04:05.123456Z`."""
    seconds, micros = divmod(int(unix * 1_000_000), 1_000_000)
    return f"{_to_the_second(seconds)}.{micros:06d}Z"


@lru_cache(maxsize=8)
def _to_the_second(seconds: int) -> str:
    # Arrival times come by the thousand in one second.
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
