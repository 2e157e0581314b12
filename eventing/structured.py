"""The JSON event format: one event as a JSON object, its data kept byte for byte (CloudEvents JSON format 1.0.2, 0.3)."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from eventing.attributes import check_name, check_text, is_json, quote
from eventing.errors import InvalidEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_BATCH: Final = msgspec.json.Decoder(list[msgspec.Raw])
_SCALAR: Final[msgspec.json.Decoder[str | bool]] = msgspec.json.Decoder(str | bool)
_INTEGER: Final = re.compile(r"-?[0-9]+")
_LONGEST_NUMBER: Final = 64
_STRINGS_ONLY: Final = frozenset({"id", "source", "specversion", "type", "subject", "time", "datacontenttype"})
_UTF_8: Final = ("utf-8", "utf8", "us-ascii")


def read(body: bytes) -> tuple[dict[str, str], bytes]:
    """The attributes in text form, not yet validated, and the data. Raises InvalidEvent.

    A JSON number or boolean becomes its text, `null` counts as absent. Where `data` is JSON the bytes are those of the
    body. An event that has `data` and no `datacontenttype` gets `application/json`, which the format implies.
    """
    members = _decoded(_MEMBERS, body, "no CloudEvent as a JSON object")
    data = members.pop("data", None)
    encoded = members.pop("data_base64", None)
    attributes = {}
    for name, raw in members.items():
        check_name(name)
        if (text := _text(name, bytes(raw))) is not None:
            attributes[name] = text
    if encoded is not None and bytes(encoded) != b"null":
        if data is not None:
            raise InvalidEvent("data_base64", "stands beside data: send one of them")
        return attributes, _binary(attributes, bytes(encoded))
    if data is None:
        return attributes, b""
    return attributes, _data(attributes, bytes(data))


def split(body: bytes) -> tuple[bytes, ...]:
    """The events of a batch (JSON batch format), each as `read` takes it, byte for byte. Raises InvalidEvent."""
    return tuple(bytes(each) for each in _decoded(_BATCH, body, "no batch, a JSON array of CloudEvents"))


def write(attributes: Mapping[str, str], data: bytes) -> bytes:
    """One event in the JSON format. JSON data stands in it as it is, text as a string, everything else as base64."""
    members: dict[str, str | msgspec.Raw] = dict(attributes)
    if not data:
        return msgspec.json.encode(members)
    media_type = attributes.get("datacontenttype", "")
    version_03 = attributes["specversion"] == "0.3"
    if version_03 and "datacontentencoding" in attributes:
        # What came in base64 (0.3, binary mode) is text already, whatever its media type says.
        encoded = attributes["datacontentencoding"].lower() == "base64" and _is_base64(data)
        members["datacontentencoding"] = "base64"
        members["data"] = data.decode() if encoded else b64encode(data).decode()
    elif is_json(media_type) and _is_valid_json(data):
        members["data"] = msgspec.Raw(data)
    elif _is_text(media_type) and (text := _utf8(data)) is not None:
        members["data"] = text
    elif version_03:
        members["datacontentencoding"] = "base64"
        members["data"] = b64encode(data).decode()
    else:
        members["data_base64"] = b64encode(data).decode()
    return msgspec.json.encode(members)


def _decoded(decoder: msgspec.json.Decoder[T], body: bytes, what: str) -> T:
    try:
        # msgspec passes over what becomes Raw, and does not look at its characters.
        body.decode()
        return decoder.decode(body)
    except UnicodeDecodeError as error:
        raise InvalidEvent("", f"the body is not UTF-8 (byte {error.start}): JSON is sent as UTF-8") from error
    except RecursionError as error:
        raise InvalidEvent("", "the body is nested too deeply") from error
    except msgspec.DecodeError as error:
        raise InvalidEvent("", f"the body is {what}: {error}") from error


def _text(name: str, raw: bytes) -> str | None:
    if raw == b"null":
        return None
    if raw[:1] in (b"{", b"["):
        raise InvalidEvent(name, "is an object or array: an attribute is a string, number or boolean")
    if raw[:1] != b'"' and name in _STRINGS_ONLY:
        raise InvalidEvent(name, "is no string: put it in quotes")
    if raw[:1] in b"-0123456789":
        return _number(name, raw.decode())
    value = _scalar(name, raw)
    if isinstance(value, bool):
        return "true" if value else "false"
    check_text(name, value)
    return value


def _scalar(name: str, raw: bytes) -> str | bool:
    try:
        return _SCALAR.decode(raw)
    except msgspec.DecodeError as error:
        raise InvalidEvent(name, f"is no valid JSON: {error}") from error


def _number(name: str, text: str) -> str:
    if len(text) > _LONGEST_NUMBER or (_INTEGER.fullmatch(text) and not -(2**31) <= int(text) < 2**31):
        raise InvalidEvent(name, f"{quote(text)} is no 32 bit integer: send it as a string")
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidEvent(name, f"is no valid JSON: {error}") from error
    return text


def _data(attributes: dict[str, str], raw: bytes) -> bytes:
    if attributes.get("specversion") == "0.3" and "datacontentencoding" in attributes:
        return _encoded(attributes, raw)
    media_type = attributes.setdefault("datacontenttype", "application/json")
    if is_json(media_type) or raw[:1] != b'"':
        return raw
    return msgspec.json.decode(raw, type=str).encode()


def _encoded(attributes: dict[str, str], raw: bytes) -> bytes:
    """Data of a 0.3 event with `datacontentencoding`. It is decoded, so the attribute would no longer be true."""
    encoding = attributes.pop("datacontentencoding")
    if encoding.lower() != "base64":
        raise InvalidEvent("datacontentencoding", f"is {quote(encoding)}: only base64 is known")
    return _from_base64("data", raw)


def _binary(attributes: Mapping[str, str], raw: bytes) -> bytes:
    if attributes.get("specversion") == "0.3":
        raise InvalidEvent("data_base64", "is not known in 0.3: use data with datacontentencoding base64")
    return _from_base64("data_base64", raw)


def _from_base64(name: str, raw: bytes) -> bytes:
    try:
        return b64decode(msgspec.json.decode(raw, type=str), validate=True)
    except (msgspec.DecodeError, binascii.Error, ValueError) as error:
        raise InvalidEvent(name, f"is no base64 text: {error}") from error


def _is_base64(data: bytes) -> bool:
    try:
        b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _is_valid_json(data: bytes) -> bool:
    try:
        data.decode()
        # Raw: a number that no Python number holds is JSON all the same.
        msgspec.json.decode(data, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _is_text(media_type: str) -> bool:
    essence, _, parameters = media_type.lower().partition(";")
    if not essence.startswith("text/"):
        return False
    charset = re.search(r'charset\s*=\s*"?([^";\s]+)', parameters)
    return charset is None or charset[1] in _UTF_8


def _utf8(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
