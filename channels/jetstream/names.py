"""The names that things have on the server: streams, subjects, and the keys of the bucket.

    stream   PREFIX_NAMESPACE_BROKER_HASH          subject  PREFIX.log.NAMESPACE.BROKER.HASH.PARTITION
    bucket   PREFIX (the stream KV_PREFIX)         key      see `Keys`

The hash is of namespace, name and uid, so that no two Brokers share a stream; what stands before it is for people.
"""

from __future__ import annotations

import re
import struct
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

from channels.records import DeliveryState, ParkedRef, slot_of

if TYPE_CHECKING:
    from channels.records import DeliveryRecord, LogName

_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]+")
_READABLE: Final = 60
"""Characters of a namespace and of a name that a stream's name shows. The server allows 255 in all."""


def log_key(name: LogName) -> str:
    """A short name of a log, the same for ever."""
    return blake2b("/".join(name).encode(), digest_size=8).hexdigest()


def stream_name(prefix: str, name: LogName) -> str:
    """The stream of a log."""
    return f"{prefix}_{_readable(name.namespace)}_{_readable(name.name)}_{log_key(name)}"


def subject_root(prefix: str) -> str:
    """What the subjects of all logs begin with."""
    return f"{prefix}.log"


def subject_of(prefix: str, name: LogName) -> str:
    """The subject of a log, without its partition."""
    return f"{subject_root(prefix)}.{_readable(name.namespace)}.{_readable(name.name)}.{log_key(name)}"


def token(text: str) -> str:
    """`text` as one token of a key: `=` and two hex digits stand for what a token cannot have."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join(char if _PLAIN.fullmatch(char) else _escaped(char) for char in text) or "="


def _escaped(char: str) -> str:
    return "".join(f"={byte:02X}" for byte in char.encode())


def _readable(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", text)[:_READABLE]


# --- keys of the bucket ----------------------------------------------------------------------------------------------


def process_key(process: str) -> str:
    return f"process.{process}"


def claim_key(slot: int) -> str:
    return f"slot.{slot}.claim"


def slot_root(slot: int) -> str:
    """What all keys of a slot begin with, its claim's too."""
    return f"slot.{slot}"


def start_key(trigger: str, log: LogName) -> str:
    """A start is kept in the slot of the first partition."""
    return f"slot.{slot_of(log, 0)}.start.{log_key(log)}.{token(trigger)}"


def tail_key(log: LogName, partition: int) -> str:
    return f"slot.{slot_of(log, partition)}.tail.{log_key(log)}.{partition}"


def members_key(log: LogName, partition: int) -> str:
    return f"slot.{slot_of(log, partition)}.members.{log_key(log)}.{partition}"


def cursor_key(trigger: str, log: LogName, partition: int) -> str:
    return f"slot.{slot_of(log, partition)}.cursor.{log_key(log)}.{partition}.{token(trigger)}"


def cursors_of(trigger: str, log: LogName, slot: int) -> str:
    """The cursors of a Trigger in a slot, whatever their partition."""
    return f"slot.{slot}.cursor.{log_key(log)}.*.{token(trigger)}"


def all_of(log: LogName) -> str:
    """Tails, members, starts and cursors of a log."""
    return f"slot.*.*.{log_key(log)}.>"


def trimmed_key(log: LogName, partition: int) -> str:
    return f"trimmed.{log_key(log)}.{partition}"


def parked_of(trigger: str, log: LogName, partition: int | None = None) -> str:
    """The parked deliveries of a Trigger, of one partition or of all."""
    return f"parked.{token(trigger)}.{log_key(log)}.{'*' if partition is None else partition}.>"


def parked_of_log(log: LogName) -> str:
    """The parked deliveries of all Triggers of a log."""
    return f"parked.*.{log_key(log)}.>"


class DeliveryKey(NamedTuple):
    """What the keys of a delivery tell without reading it, so that lists and orders cost no reading."""

    id: str
    state: str
    namespace: str
    trigger: str
    log: str
    partition: str
    due: str
    size: str

    @classmethod
    def of(cls, delivery: DeliveryRecord) -> DeliveryKey:
        """The key of a delivery with what it says now."""
        return cls(
            delivery.id,
            delivery.state.value,
            token(delivery.log.namespace),
            token(delivery.trigger),
            log_key(delivery.log),
            str(delivery.partition),
            struct.pack(">d", delivery.due).hex(),
            str(delivery.event.size),
        )

    @classmethod
    def parse(cls, key: str) -> DeliveryKey:
        """From the key of the record."""
        return cls(*key.split(".")[1:])

    @classmethod
    def from_parked(cls, key: str, namespace: str) -> DeliveryKey:
        """From the key of the index, for a delivery of a Broker in `namespace`."""
        _, trigger, log, partition, due, size, delivery = key.split(".")
        return cls(delivery, DeliveryState.RETRYING.value, token(namespace), trigger, log, partition, due, size)

    @staticmethod
    def parse_parked(key: str) -> ParkedRef:
        """From the key of the index."""
        *_, due, size, delivery = key.split(".")
        (when,) = struct.unpack(">d", bytes.fromhex(due))
        return ParkedRef(delivery, when, int(size))

    @property
    def record(self) -> str:
        """The key under which the delivery itself is stored."""
        return ".".join(("delivery", *self))

    @property
    def parked(self) -> str | None:
        """The key by which it is found for its Trigger, None where it is dead."""
        if self.state != DeliveryState.RETRYING.value:
            return None
        return f"parked.{self.trigger}.{self.log}.{self.partition}.{self.due}.{self.size}.{self.id}"


def delivery_by_id(delivery: str) -> str:
    return f"delivery.{delivery}.>"


def deliveries_of(state: DeliveryState | None, namespace: str) -> str:
    return f"delivery.*.{state.value if state is not None else '*'}.{token(namespace) if namespace else '*'}.>"
