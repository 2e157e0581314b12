"""Rules for the parts that Broker and Trigger have in common: references, destinations, delivery specs."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from controller.objects.field_errors import FieldError, disallowed, invalid, missing
from controller.objects.views import child
from eventing.delivery_spec import parse_delivery
from eventing.errors import InvalidDelivery

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from controller.objects.kind import JsonObject

DELIVERY_FIELDS = frozenset(
    {"deadLetterSink", "retry", "backoffPolicy", "backoffDelay", "backoffMax", "timeout", "retryAfterMax", "format"}
)
_NOT_IN_URI = re.compile(r"[\x00-\x20\x7f<>\"\\^`{|}]|%(?![0-9A-Fa-f]{2})")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")


def reference_errors(
    ref: JsonObject, path: str, required: Iterable[str] = ("apiVersion", "kind", "name")
) -> Iterator[FieldError]:
    """What a reference lacks."""
    for field in required:
        if not ref.get(field):
            yield missing(f"{path}.{field}")


def destination_errors(destination: JsonObject, path: str) -> Iterator[FieldError]:
    """What is wrong with a Destination: it takes a `ref`, an absolute `uri`, or a `ref` and a relative `uri`."""
    ref, uri = destination.get("ref"), destination.get("uri")
    if ref is None and uri is None:
        yield FieldError("expected at least one, got none", (f"{path}.ref", f"{path}.uri"))
        return
    if uri is not None and (complaint := uri_complaint(uri)):
        yield invalid(uri, f"{path}.uri", complaint)
        return
    yield from _one_address(ref, uri, path)
    if uri is not None and destination.get("CACerts") is not None and not _holds_certificate(destination["CACerts"]):
        yield invalid("CA Cert provided is invalid", f"{path}.caCert")


def _one_address(ref: Any, uri: str | None, path: str) -> Iterator[FieldError]:
    if ref is not None and uri is None:
        yield from reference_errors(ref if isinstance(ref, dict) else {}, f"{path}.ref")
        if isinstance(ref, dict) and ref.get("group"):
            yield disallowed(f"{path}.ref.group")
        return
    parts = urlsplit(uri or "")
    if ref is None and not (parts.scheme and parts.netloc):
        yield invalid("Relative URI is not allowed when Ref and [apiVersion, kind, name] is absent", f"{path}.uri")
    if ref is not None and parts.scheme:
        yield FieldError(
            "Absolute URI is not allowed when Ref or [apiVersion, kind, name] is present",
            (f"{path}.ref", f"{path}.uri", f"{path}[apiVersion, kind, name]"),
        )


def uri_complaint(uri: object) -> str:
    """Why a text is no URI at all, or ""."""
    if not isinstance(uri, str):
        return "a URI is text"
    if found := _NOT_IN_URI.search(uri):
        return f"{found[0]!r} may not stand in a URI: percent-encode it"
    try:
        _ = urlsplit(uri).port
    except ValueError as error:
        return f"this is not a URI: {error}"
    return ""


def _holds_certificate(pem: object) -> bool:
    found = _CERTIFICATE.search(pem) if isinstance(pem, str) else None
    if found is None:
        return False
    try:
        der = b64decode("".join(found[1].split()), validate=True)
    except binascii.Error:
        return False
    # DER: a certificate is a SEQUENCE.
    return der.startswith(b"\x30")


def delivery_errors(delivery: object, path: str) -> Iterator[FieldError]:
    """What is wrong with a delivery spec, its dead letter sink included."""
    if isinstance(delivery, dict) and delivery.get("deadLetterSink") is not None:
        yield from destination_errors(child(delivery, "deadLetterSink"), f"{path}.deadLetterSink")
    yield from attempt_errors(delivery, path)


def attempt_errors(delivery: object, path: str) -> Iterator[FieldError]:
    """What is wrong with how a delivery is tried. Each field is parsed alone, so that all faults are told at once."""
    if delivery is None:
        return
    if not isinstance(delivery, dict):
        yield invalid(delivery, path, "a delivery spec is an object")
        return
    yield from unknown_fields(delivery, DELIVERY_FIELDS, path)
    for field in sorted(DELIVERY_FIELDS - {"deadLetterSink"}):
        if delivery.get(field) is None:
            continue
        try:
            parse_delivery({field: delivery[field]}, path)
        except InvalidDelivery as error:
            yield invalid(delivery[field], error.path, error.detail)


def unknown_fields(parent: JsonObject, known: frozenset[str], path: str) -> Iterator[FieldError]:
    """Fields that do not exist: a misspelt filter would otherwise match every event."""
    for name in parent:
        if name not in known:
            yield disallowed(f"{path}.{name}", f"there is no such field; known are {', '.join(sorted(known))}")


def changed(old: Any, new: Any, place: str) -> str:
    """The lines by which Knative tells what an immutable field was and is."""
    return f'{place}:\n\t-: "{old}"\n\t+: "{new}"\n'
