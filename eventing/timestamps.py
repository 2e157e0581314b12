"""RFC 3339 times, as CloudEvents and Kubernetes write them."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(unix: float) -> str:
    """A Unix time in seconds as UTC with microseconds: `2026-01-02T03:04:05.123456Z`."""
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
