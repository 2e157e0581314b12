"""What can go wrong with the Kubernetes API. `controller/kube` raises nothing else; httpx's error is chained as the cause.

* KubeError
  + KubeconfigError       the kubeconfig cannot be used: names the field and what to do
  + ApiUnavailable        no answer, or one that asks to come back: the same request may succeed later
  + Refused               the server answered, and the same request will be answered alike
    - Invalid             400, 415, 422: the object or the request is wrong
    - Unauthorized        401: who are you
    - Forbidden           403: you may not
    - NotFound            404: no such object, or no such kind
    - Conflict            409: written by someone else meanwhile
      . AlreadyExists     409: an object of that name is there
    - Gone                the version asked for is not (or not yet) known: list again
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class KubeError(Exception):
    """Root of every error of the Kubernetes API. `str()` is one line for a person."""


class KubeconfigError(KubeError):
    """A kubeconfig that is missing, broken, or asks for what this client cannot do."""


class ApiUnavailable(KubeError):
    """The server cannot be reached, broke off, or said 429 or 5xx. `retry_after` is its own wish in seconds, or None."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Refused(KubeError):
    """An answer that is an error of the request. `code` is the HTTP status, `reason` and `details` are the Status's."""

    def __init__(self, message: str, code: int, reason: str, details: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details


class Invalid(Refused):
    """The object breaks its schema or was denied on admission, or the request itself is wrong."""


class Unauthorized(Refused):
    """The credentials are missing, wrong or expired."""


class Forbidden(Refused):
    """RBAC does not allow it, or the namespace is terminating."""


class NotFound(Refused):
    """There is no such object, or the server does not serve the kind: `details` has a name only for the former."""


class Conflict(Refused):
    """The object changed since the version that the request names."""


class AlreadyExists(Conflict):
    """An object of this name exists."""


class Gone(Refused):
    """The version is too old (410 Expired), or from a future that this server does not know: only a list helps."""


_BY_CODE: dict[int, type[Refused]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    415: Invalid,
    422: Invalid,
}


def error_of(code: int, body: object, *, otherwise: str, retry_after: float | None = None) -> KubeError:
    """The error that an answer means: `code` its HTTP status (or that of a Status in a watch), `body` its decoded JSON.

    A body that is no Status is fine, proxies answer too, and paths that are not served: then `otherwise` is the message.
    """
    status = body if isinstance(body, dict) and body.get("kind") == "Status" else {}
    message = str(status.get("message") or otherwise)
    reason = str(status.get("reason") or "")
    details = status.get("details") or {}
    if reason == "AlreadyExists":
        return AlreadyExists(message, code, reason, details)
    causes = details.get("causes") or []
    if any(cause.get("reason") == "ResourceVersionTooLarge" for cause in causes):
        return Gone(message, code, reason, details)
    if code == 429 or code >= 500:
        return ApiUnavailable(message, retry_after)
    return _BY_CODE.get(code, Refused)(message, code, reason, details)
