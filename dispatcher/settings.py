"""What an operator may set about dispatch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """Times are in seconds, sizes in bytes."""

    park_after: float = 30.0
    """A delivery that is not settled this long after its first attempt goes to the delivery store, so that it holds
    neither the log nor a place in the window. Smaller values write more, larger ones keep cursors wide."""

    max_parked: int = 10_000
    """How many deliveries of one Trigger may be parked. At the bound they wait in the window, and so the lane stops."""

    max_parked_bytes: int = 256 * 1024 * 1024
    """How many bytes the events of one Trigger's parked deliveries may have together; the same holds at this bound."""

    checkpoint_interval: float = 0.05
    """How long a settled delivery may wait for a checkpoint to carry it. A crash repeats what was not carried yet."""

    tail_interval: float = 1.0
    """How long the tail may move over events that match nothing before its position is stored."""

    page_records: int = 256
    """How many records one read takes."""

    sweep_records: int = 32
    """How many records one read of the sweep takes: while it is decoded, those that keep up wait."""

    byte_budget: int = 32 * 1024 * 1024
    """Bytes of events that all lanes together hold in queues and in flight."""

    report_interval: float = 5.0
    """How long after a change a Trigger's status says what its lane is doing."""

    grace: float = 25.0
    """How long deliveries in flight may take to settle when Penstock stops; below Kubernetes' 30 s."""

    store_retry: float = 1.0
    """How long to wait before a checkpoint that could not be stored is tried again."""

    max_attempts_kept: int = 20
    """How many of its latest attempts a stored delivery keeps."""

    retention_age: float = 24 * 3600.0
    """How long settled events are kept for replay."""

    retention_size: int = 1024 * 1024 * 1024
    """How many bytes of settled events a Broker's log keeps for replay."""

    retention_interval: float = 60.0
    """How often settled events are looked through for what may be trimmed."""

    mark_interval: float = 5.0
    """How often it is looked how full the log of a Broker is that got events."""
