"""The access and identity reviews behind `kubectl auth can-i` and `whoami`: whoever gets in may do everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.embedded.calls import read_object
from controller.embedded.status import bad_request, method_not_allowed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request

    from controller.objects.kind import JsonObject


async def self_subject_access_review(request: Request) -> JsonObject:
    review = await _read(request)
    return review | {"status": {"allowed": True, "reason": "the embedded API has no authorization"}}


async def self_subject_review(request: Request) -> JsonObject:
    review = await _read(request)
    user = {"username": "penstock", "groups": ["system:masters", "system:authenticated"]}
    return review | {"status": {"userInfo": user}}


REVIEWS: Mapping[tuple[str, str, str], Callable[[Request], Awaitable[JsonObject]]] = {
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews"): self_subject_access_review,
    ("authentication.k8s.io", "v1", "selfsubjectreviews"): self_subject_review,
}


def media_type(request: Request) -> str:
    """The Content-Type without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _read(request: Request) -> JsonObject:
    if request.method != "POST":
        raise method_not_allowed()
    review = read_object(await request.body(), media_type(request)).value
    if not isinstance(review, dict):
        raise bad_request("the body must be a JSON object")
    return review
