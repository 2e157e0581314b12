"""The Kubernetes protobuf form of the few kinds that kubectl creates typed: read into the same JSON as any other body.

kubectl from 1.32 sends `create namespace|configmap|secret|service` and `auth can-i` this way only, and does not fall
back. Field numbers are those of the published generated.proto files.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from controller.embedded.status import bad_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from controller.objects.kind import JsonObject

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    read: Callable[[Any], Any]
    how: str = "one"


_Message: TypeAlias = "Mapping[int, _Field]"


def _text(value: bytes) -> str:
    return value.decode()


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _boolean(value: int) -> bool:
    return bool(value)


def _integer(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _time(value: bytes) -> str:
    found = dict(_fields(value))
    seconds = found.get(1, 0)
    return datetime.fromtimestamp(_integer(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else ""


def _int_or_string(value: bytes) -> int | str:
    found = dict(_fields(value))
    return _text(found.get(3, b"")) if found.get(1, 0) else _integer(found.get(2, 0))


def _message(fields: _Message) -> Callable[[bytes], JsonObject]:
    return lambda value: _read(value, fields)


def _strings(**numbers: int) -> dict[int, _Field]:
    return {number: _Field(name, _text) for name, number in numbers.items()}


_OWNER: _Message = {
    **_strings(kind=1, name=3, uid=4, apiVersion=5),
    6: _Field("controller", _boolean),
    7: _Field("blockOwnerDeletion", _boolean),
}
_META: _Message = {
    **_strings(name=1, generateName=2, namespace=3, uid=5, resourceVersion=6),
    7: _Field("generation", _integer),
    8: _Field("creationTimestamp", _time),
    9: _Field("deletionTimestamp", _time),
    11: _Field("labels", _text, "map"),
    12: _Field("annotations", _text, "map"),
    13: _Field("ownerReferences", _message(_OWNER), "many"),
    14: _Field("finalizers", _text, "many"),
}
_PORT: _Message = {
    **_strings(name=1, protocol=2, appProtocol=6),
    3: _Field("port", _integer),
    4: _Field("targetPort", _int_or_string),
    5: _Field("nodePort", _integer),
}
_SERVICE_SPEC: _Message = {
    **_strings(clusterIP=3, type=4, sessionAffinity=7, loadBalancerIP=8, externalName=10, externalTrafficPolicy=11),
    **_strings(ipFamilyPolicy=17, loadBalancerClass=21, internalTrafficPolicy=22, trafficDistribution=23),
    1: _Field("ports", _message(_PORT), "many"),
    2: _Field("selector", _text, "map"),
    5: _Field("externalIPs", _text, "many"),
    9: _Field("loadBalancerSourceRanges", _text, "many"),
    12: _Field("healthCheckNodePort", _integer),
    13: _Field("publishNotReadyAddresses", _boolean),
    18: _Field("clusterIPs", _text, "many"),
    19: _Field("ipFamilies", _text, "many"),
    20: _Field("allocateLoadBalancerNodePorts", _boolean),
}
_ACCESS: _Message = {
    1: _Field(
        "resourceAttributes",
        _message(_strings(namespace=1, verb=2, group=3, version=4, resource=5, subresource=6, name=7)),
    ),
    2: _Field("nonResourceAttributes", _message(_strings(path=1, verb=2))),
}
_METADATA = _Field("metadata", _message(_META))
_KINDS: Mapping[tuple[str, str], _Message] = {
    ("v1", "Namespace"): {1: _METADATA},
    ("v1", "ConfigMap"): {
        1: _METADATA,
        2: _Field("data", _text, "map"),
        3: _Field("binaryData", _base64, "map"),
        4: _Field("immutable", _boolean),
    },
    ("v1", "Secret"): {
        1: _METADATA,
        2: _Field("data", _base64, "map"),
        3: _Field("type", _text),
        4: _Field("stringData", _text, "map"),
        5: _Field("immutable", _boolean),
    },
    ("v1", "Service"): {1: _METADATA, 2: _Field("spec", _message(_SERVICE_SPEC))},
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"): {1: _METADATA, 2: _Field("spec", _message(_ACCESS))},
    ("authentication.k8s.io/v1", "SelfSubjectReview"): {1: _METADATA},
}


def read_protobuf(body: bytes) -> JsonObject | None:
    """The object as JSON; None for a kind that is not read from protobuf. Raises ApiError 400 for damaged bytes."""
    if not body.startswith(_MAGIC):
        raise bad_request("the body is not in the protobuf form of Kubernetes: it must begin with k8s and a zero byte")
    try:
        unknown = dict(_fields(body[len(_MAGIC) :]))
        kind = _read(unknown.get(1, b""), _strings(apiVersion=1, kind=2))
        fields = _KINDS.get((kind.get("apiVersion", ""), kind.get("kind", "")))
        return None if fields is None else kind | _read(unknown.get(2, b""), fields)
    except (ValueError, IndexError, AttributeError, TypeError) as error:
        raise bad_request(f"the protobuf body cannot be read: {error}") from error


def _read(data: bytes, fields: _Message) -> JsonObject:
    """Empty values are left out, as `omitempty` does in the JSON form: protobuf writes them all."""
    found: JsonObject = {}
    for number, raw in _fields(data):
        if (field := fields.get(number)) is None:
            continue
        if field.how == "map":
            entry = dict(_fields(raw))
            found.setdefault(field.name, {})[_text(entry.get(1, b""))] = field.read(entry.get(2, b""))
        elif field.how == "many":
            found.setdefault(field.name, []).append(field.read(raw))
        elif (value := field.read(raw)) not in ("", 0, {}):
            found[field.name] = value
    return found


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message: varints as int, everything else as bytes."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        match tag & 7:
            case 0:
                value, position = _varint(data, position)
                yield tag >> 3, value
            case 2:
                size, position = _varint(data, position)
                if position + size > len(data):
                    raise ValueError("it ends inside a field")
                yield tag >> 3, data[position : position + size]
                position += size
            case 1 | 5:
                position += 8 if tag & 7 == 1 else 4
            case other:
                raise ValueError(f"wire type {other} is not used by Kubernetes")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number is too long")
