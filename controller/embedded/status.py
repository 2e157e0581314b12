"""Errors as the Kubernetes API sends them: `Status` objects with the messages that kubectl and client-go know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.objects.kind import JsonObject, Kind


@dataclass(frozen=True, slots=True)
class Cause:
    """One fault of an object: `field` is the path (`spec.delivery.retry`), `reason` a CauseType, `message` the text."""

    field: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class ApiError(Exception):
    """A refused request. It becomes the HTTP status `code` and a Status object.

    `warnings` are sent as Warning headers beside it.
    """

    def __init__(
        self, code: int, reason: str, message: str, details: JsonObject | None = None, warnings: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.warnings = list(warnings)

    def body(self) -> JsonObject:
        status: JsonObject = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }
        return {key: value for key, value in status.items() if value not in (None, "")}


def success(kind: Kind, name: str, uid: str) -> JsonObject:
    """The answer to a finished DELETE."""
    details = {"name": name, "group": kind.group, "kind": kind.plural, "uid": uid}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {key: value for key, value in details.items() if value},
    }


def not_found(kind: Kind, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{kind.resource} "{name}" not found', _named(kind, name))


def namespace_not_found(namespace: str) -> ApiError:
    details = {"name": namespace, "kind": "namespaces"}
    return ApiError(404, "NotFound", f'namespaces "{namespace}" not found', details)


def namespace_terminating(kind: Kind, name: str, namespace: str) -> ApiError:
    cause = f"namespace {namespace} is being terminated"
    return ApiError(
        403,
        "Forbidden",
        f'{kind.resource} "{name}" is forbidden: unable to create new content in namespace {namespace} '
        "because it is being terminated",
        _named(kind, name)
        | {"causes": [{"reason": "NamespaceTerminating", "message": cause, "field": "metadata.namespace"}]},
    )


def forbidden(kind: Kind, name: str, why: str) -> ApiError:
    return ApiError(403, "Forbidden", f'{kind.resource} "{name}" is forbidden: {why}', _named(kind, name))


def already_exists(kind: Kind, name: str) -> ApiError:
    return ApiError(409, "AlreadyExists", f'{kind.resource} "{name}" already exists', _named(kind, name))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(kind: Kind, name: str, why: str = MODIFIED) -> ApiError:
    message = f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}'
    return ApiError(409, "Conflict", message, _named(kind, name))


def invalid(kind: Kind, name: str, causes: Sequence[Cause]) -> ApiError:
    """422: the object breaks its schema or a rule of metadata. `details.kind` is the Kind here, not the plural."""
    qualified = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    texts = [str(cause) for cause in causes]
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details: JsonObject = {"name": name, "group": kind.group, "kind": kind.kind, "causes": cause_list(causes)}
    details = {key: value for key, value in details.items() if value}
    return ApiError(422, "Invalid", f'{qualified} "{name}" is invalid: {listed}', details)


def invalid_options(options: str, causes: Sequence[Cause]) -> ApiError:
    """422: a query option has a value that does not exist. `options` is CreateOptions, PatchOptions, ..."""
    texts = [str(cause) for cause in causes]
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details: JsonObject = {"group": "meta.k8s.io", "kind": options, "causes": cause_list(causes)}
    return ApiError(422, "Invalid", f'{options}.meta.k8s.io "" is invalid: {listed}', details)


def cause_list(causes: Sequence[Cause]) -> list[JsonObject]:
    return [{"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes]


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def method_not_allowed() -> ApiError:
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def not_acceptable(accepted: Sequence[str]) -> ApiError:
    return ApiError(
        406, "NotAcceptable", f"only the following media types are accepted: {', '.join(accepted)}", details={}
    )


def unsupported_media_type(accepted: Sequence[str]) -> ApiError:
    return ApiError(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}",
    )


def rejected() -> ApiError:
    """422 of a JSON patch whose test or path does not fit the object."""
    return ApiError(422, "Invalid", "the server rejected our request due to an error in our request", {})


def expired(wanted: int, oldest: int) -> ApiError:
    return ApiError(410, "Expired", f"too old resource version: {wanted} ({oldest})")


def from_the_future(wanted: int, current: int) -> ApiError:
    message = f"Too large resource version: {wanted}, current: {current}"
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    return ApiError(504, "Timeout", f"Timeout: {message}", {"causes": causes, "retryAfterSeconds": 1})


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def _named(kind: Kind, name: str) -> JsonObject:
    details = {"name": name, "group": kind.group, "kind": kind.plural}
    return {key: value for key, value in details.items() if value}
