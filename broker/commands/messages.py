"""The events that `send` posts: made from flags, or read from a file as they are, one HTTP message each."""

from __future__ import annotations

import io
import mimetypes
import re
import sys
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

STRUCTURED = b"content-type: application/cloudevents+json\r\n"

_ATTRIBUTE = re.compile(r"[a-z0-9]+")

_SAFE = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')
"""What the CloudEvents HTTP binding (3.1.3.2) leaves as it is in a header: printable ASCII without space, `"`, `%`."""


class InvalidInput(Exception):
    """What was given to send is no event; the message names the flag or the line, and the fix."""


@dataclass(frozen=True, slots=True)
class Message:
    """One event as an HTTP request body, and the lines of the head that say what it is, each ended by CRLF."""

    id: str
    head: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Payload:
    """The data of an event: its bytes, and its content type (empty where there is none)."""

    data: bytes = b""
    content_type: str = ""


def payload(
    *, text: str | None = None, json_text: str | None = None, file: Path | None = None, content_type: str | None = None
) -> Payload:
    """The data that flags give. The bytes are never changed, JSON is only checked. Raises InvalidInput."""
    if sum(source is not None for source in (text, json_text, file)) > 1:
        raise InvalidInput("--data, --json and --data-file exclude each other: give one of them")
    if content_type is not None and not (
        content_type.isascii() and content_type.isprintable() and content_type.strip()
    ):
        raise InvalidInput(f"--content-type {content_type!r}: write a media type, for example application/json")
    if text is not None:
        return Payload(text.encode(errors="surrogateescape"), content_type or "text/plain; charset=utf-8")
    if json_text is not None:
        data = json_text.encode(errors="surrogateescape")
        try:
            msgspec.json.decode(data)
        except msgspec.DecodeError as error:
            raise InvalidInput(f"--json: {json_text!r} is not JSON ({error}); quote it for the shell: '...'") from error
        return Payload(data, content_type or "application/json")
    if file is not None:
        try:
            data = file.read_bytes()
        except OSError as error:
            raise InvalidInput(f"--data-file {file}: {error.strerror or error}") from error
        return Payload(data, content_type or mimetypes.guess_type(file.name)[0] or "application/octet-stream")
    return Payload(b"", content_type or "")


def extensions(pairs: list[str]) -> dict[str, str]:
    """The attributes of `--attr NAME=VALUE`. Raises InvalidInput."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not _ATTRIBUTE.fullmatch(name) or name == "data":
            raise InvalidInput(
                f"--attr {pair!r}: write NAME=VALUE with a name of lower-case letters and digits, for example tenant=a"
            )
        if name == "datacontenttype":
            raise InvalidInput(f"--attr {pair!r}: use --content-type {value!r}")
        if not value:
            raise InvalidInput(f"--attr {pair!r}: an attribute may not be empty: leave it out instead")
        found[name] = value
    return found


def generated(attributes: Mapping[str, str], data: Payload, number: int, event_id: str | None) -> Iterator[Message]:
    """`number` events in binary mode that differ in `id` and `time`. With more than one, `event_id` is given `-1`, `-2`, ..."""
    for k in range(1, number + 1):
        own_id = str(uuid.uuid4()) if event_id is None else event_id if number == 1 else f"{event_id}-{k}"
        now = datetime.now(UTC).isoformat().removesuffix("+00:00") + "Z"
        full = {"specversion": "1.0", "id": own_id, "time": now, **attributes}
        lines = [f"ce-{name}: {quote(value, safe=_SAFE, errors='replace')}\r\n" for name, value in full.items()]
        if data.content_type:
            lines.append(f"content-type: {data.content_type}\r\n")
        yield Message(full["id"], "".join(lines).encode(), data.data)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file, or stdin for `-`. Raises InvalidInput."""
    if str(path) == "-":
        yield _stdin()
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidInput(f"--file {path}: {error.strerror or error}") from error
    with file:
        yield file


def _stdin() -> BinaryIO:
    """Stdin through a buffer of our own: Python dies at its end where a thread still reads from its `sys.stdin`."""
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except io.UnsupportedOperation:
        return sys.stdin.buffer


def read(file: BinaryIO, name: str) -> Iterator[Message]:
    """The events of a file: one JSON event, an array of them, or one a line (read as they come). Bytes are not changed.

    Raises InvalidInput with the line at which the file ceases to be one of these.
    """
    number, first = _next_line(file, 0)
    if not first:
        raise InvalidInput(f"{name} has no event: expected JSON, one event a line, or an array of events")
    if (fields := _object(first)) is None:
        yield from _whole(first + file.read(), name)
        return
    text = first
    while fields is not None:
        yield _structured(text.strip(), fields)
        number, text = _next_line(file, number)
        if not text:
            return
        fields = _object(text)
    raise InvalidInput(f"{name}, line {number}: not a JSON object; with one event a line, each line is one whole event")


def _next_line(file: BinaryIO, number: int) -> tuple[int, bytes]:
    """The next line that is not blank, and its number; b"" at the end."""
    for text in file:
        number += 1
        if text.strip():
            return number, text
    return number, b""


def _whole(body: bytes, name: str) -> Iterator[Message]:
    """A document of several lines: an event, or an array whose elements are sent one by one."""
    try:
        elements = (
            msgspec.json.decode(body, type=list[msgspec.Raw])
            if body.lstrip().startswith(b"[")
            else [msgspec.Raw(body.strip())]
        )
        for element in elements:
            yield _structured(bytes(element), msgspec.json.decode(element, type=dict[str, msgspec.Raw]))
    except msgspec.DecodeError as error:
        raise InvalidInput(
            f"{name} holds neither a JSON event, nor an array of events, nor one event a line: {error}"
        ) from error


def _object(text: bytes) -> dict[str, msgspec.Raw] | None:
    try:
        return msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return None


def _structured(body: bytes, fields: Mapping[str, msgspec.Raw]) -> Message:
    """The event as it stands; an `id` that is no string is for the receiver to refuse."""
    try:
        event_id = msgspec.json.decode(fields["id"], type=str)
    except (KeyError, msgspec.DecodeError):
        event_id = ""
    return Message(event_id, STRUCTURED, body)
