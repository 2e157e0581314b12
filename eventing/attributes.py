"""Context attributes in text form: which names, values and combinations CloudEvents 1.0 and 0.3 allow."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from eventing.errors import InvalidEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSIONS: Final = ("1.0", "0.3")

_REQUIRED: Final = ("id", "source", "type")
_NOT_EMPTY: Final = ("subject", "dataschema", "schemaurl", "datacontentencoding")
_LONGEST_QUOTE: Final = 60
_ALL_NEED: Final = "every CloudEvent has a non-empty id, source, specversion and type"

_NAME: Final = re.compile(r"[a-z0-9]+")
# Controls, surrogates and the code points that Unicode keeps from being characters (CloudEvents 1.0.2, type String).
_NOT_ALLOWED: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    + "]"
)
_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_MEDIA_TYPE: Final = re.compile(rf"({_WORD}/{_WORD})[ \t]*(?:;[ -~\t]*)?")
_ABSOLUTE_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.+", re.DOTALL)
_DATE: Final = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])")
_TIME: Final = re.compile(
    r"[Tt](?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
    r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)


def validate(attributes: Mapping[str, str]) -> None:
    """Check the attributes of one event against the specification. Raises InvalidEvent with the attribute at fault.

    Names and characters are not looked at: they are checked as they are read.
    """
    validate_event(attributes)
    for name, value in attributes.items():
        validate_value(name, value)


def validate_event(attributes: Mapping[str, str]) -> None:
    """The part of `validate` that looks at the event as a whole: what must be there."""
    version = attributes.get("specversion")
    if version not in VERSIONS:
        raise _bad_version(version)
    for name in _REQUIRED:
        if name not in attributes:
            raise InvalidEvent(name, f"is missing: {_ALL_NEED}")
    if "dataschema" in attributes and version == "1.0":
        _validate_schema(attributes["dataschema"])


def validate_value(name: str, value: str) -> None:
    """The part of `validate` that looks at one attribute alone."""
    if name in _REQUIRED:
        if not value or value.isspace():
            raise InvalidEvent(name, f"is blank: {_ALL_NEED}")
    elif name == "time":
        if not is_rfc3339(value):
            raise InvalidEvent("time", f"{quote(value)} is no RFC 3339 time: write it like 2026-01-02T03:04:05Z")
    elif name == "datacontenttype":
        if not is_media_type(value):
            raise InvalidEvent(name, f"{quote(value)} is no media type: write it like application/json")
    elif name in _NOT_EMPTY and (not value or value.isspace()):
        raise InvalidEvent(name, "is empty: give it a value or leave it out")


def check_name(name: str) -> None:
    """Raises InvalidEvent where CloudEvents does not allow this name for an attribute."""
    if _NAME.fullmatch(name) is None:
        shown = quote(name)
        raise InvalidEvent(name if name.isprintable() else "", f"{shown} is no attribute name: use only a-z and 0-9")
    if name == "data":
        raise InvalidEvent("data", "is no attribute name: the data goes in the body")


def check_text(name: str, text: str) -> None:
    """Raises InvalidEvent where `text` holds a character that no attribute may hold, line breaks among them."""
    # What is printable is allowed; the reverse does not hold (U+00A0), so the rest is looked at more closely.
    if not text.isprintable() and (found := _NOT_ALLOWED.search(text)):
        code = f"U+{ord(found[0]):04X}"
        raise InvalidEvent(name, f"has the character {code}, which CloudEvents does not allow: take it out")


def is_rfc3339(text: str) -> bool:
    """Whether `text` is an RFC 3339 date-time of a day that exists; `t` and `z` may be in lower case."""
    return _TIME.fullmatch(text, 10) is not None and _is_date(text[:10])


def is_media_type(text: str) -> bool:
    """Whether `text` is a media type (RFC 9110, 8.3.1) that can stand in a header as it is; parameters are not parsed."""
    return _MEDIA_TYPE.fullmatch(text) is not None


def is_json(media_type: str) -> bool:
    """Whether data of this media type is JSON: `application/json`, `text/json`, and every type with `+json`."""
    subtype = media_type.partition(";")[0].strip().lower().partition("/")[2]
    return subtype == "json" or subtype.endswith("+json")


def quote(text: str) -> str:
    """A value from outside as it may stand in a message: quoted, escaped, cut."""
    return repr(text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "...")


def _bad_version(version: str | None) -> InvalidEvent:
    if version is None:
        return InvalidEvent("specversion", "is missing: Penstock takes CloudEvents 1.0 and 0.3")
    return InvalidEvent("specversion", f"is {quote(version)}: Penstock takes CloudEvents 1.0 and 0.3")


def _validate_schema(schema: str) -> None:
    if _ABSOLUTE_URI.fullmatch(schema) is None:
        raise InvalidEvent("dataschema", f"{quote(schema)} is no absolute URI: begin it with a scheme, like https:")


@lru_cache(maxsize=64)
def _is_date(text: str) -> bool:
    # Most events are of today.
    found = _DATE.fullmatch(text)
    return found is not None and int(found[3]) <= _days(int(found[1]), int(found[2]))


def _days(year: int, month: int) -> int:
    if month == 2:
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        return 29 if leap else 28
    return 30 if month in (4, 6, 9, 11) else 31
