"""The ASGI application: from a path to the handler, and from what it returns or raises to a response."""

from __future__ import annotations

import hmac
import ipaddress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from controller.embedded import discovery, status
from controller.embedded.calls import JSON, Call
from controller.embedded.openapi import V2_PROTOBUF, OpenApi
from controller.embedded.registry import Registry
from controller.embedded.resources import Answer, Resources
from controller.embedded.reviews import REVIEWS, media_type
from controller.embedded.sources import Sources
from controller.embedded.status import ApiError
from controller.embedded.store import StoreFailed
from controller.embedded.watch import Watches
from controller.objects.kind import EMPTY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from starlette.types import Receive, Scope, Send

    from controller.embedded.registry import ResourceSource
    from controller.embedded.store import Store
    from controller.objects.kind import JsonObject, Kind

BODY_LIMIT = 3 << 20
_NO_CACHE = "no-cache, private"
_AGGREGATED = ("v2", "v2beta1")


def embedded_api(
    kinds: Sequence[Kind],
    store: Store,
    sources: Mapping[str, ResourceSource] = EMPTY,
    *,
    token: str = "",
    hosts: Collection[str] = (),
    clock: Callable[[], datetime] | None = None,
) -> EmbeddedApi:
    """The Kubernetes API for these kinds, as an ASGI application; `store` stays the caller's to close.

    `sources` has, by resource name, one source for each kind that is not stored. With a `token`, requests need it as
    bearer token. `hosts` are names, beside IP addresses and localhost, by which clients may address the server.
    """
    return EmbeddedApi(
        Registry(kinds, sources), store, token=token, hosts=frozenset(hosts), clock=clock or (lambda: datetime.now(UTC))
    )


class EmbeddedApi:
    """See `embedded_api`."""

    def __init__(
        self, registry: Registry, store: Store, *, token: str, hosts: frozenset[str], clock: Callable[[], datetime]
    ) -> None:
        self._registry = registry
        self._token = token
        self._hosts = hosts
        self._openapi = OpenApi(registry)
        self._resources = Resources(registry, store, clock)
        self._sources = Sources(registry, clock)
        self._watches = Watches(store, clock)
        self._prepared = False

    def end_watches(self) -> None:
        """End every watch, for good. Call it first on shutdown: a server waits for its open responses."""
        self._watches.end()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"the embedded API speaks http, not {scope['type']}")
        request = Request(scope, receive)
        try:
            response = await self._respond(request, send)
        except ApiError as error:
            response = _json(error.body(), error.code, error.warnings)
        except StoreFailed as error:
            response = _json(ApiError(500, "InternalError", str(error)).body(), 500)
        except RecursionError:
            response = _json(status.bad_request("the body is nested too deeply").body(), 400)
        except ClientDisconnect:
            return
        if response is not None:
            await response(scope, receive, send)

    async def _respond(self, request: Request, send: Send) -> Response | None:
        """The response, or None where a watch has sent its own."""
        self._guard(request)
        parts = [part for part in request.scope["path"].split("/") if part]
        match parts:
            case ["healthz" | "livez" | "readyz", *_]:
                return PlainTextResponse("ok", headers={"cache-control": _NO_CACHE})
            case ["version"]:
                return _json(discovery.VERSION)
            case ["openapi", "v2"]:
                return Response(self._openapi.v2(), media_type=V2_PROTOBUF, headers={"cache-control": _NO_CACHE})
            case ["openapi", *_]:
                return self._document("/".join(parts[2:])) if parts[1:2] == ["v3"] else _unknown_path()
            case ["api" | "apis", *_]:
                self._authenticate(request)
                return await self._api(request, parts, send)
        return _unknown_path()

    def _guard(self, request: Request) -> None:
        """Refuse what a web page in the user's browser could send: it may reach the loopback address too."""
        if "origin" in request.headers:
            raise ApiError(403, "Forbidden", "requests from web pages (with an Origin header) are not served")
        host = request.url.hostname or ""
        # With a token a web page has nothing to gain by a name that it made resolve to this address.
        if not (self._token or _is_address(host) or host == "localhost" or host in self._hosts):
            raise ApiError(403, "Forbidden", f"the host name {host!r} is not one that this server answers to")

    def _authenticate(self, request: Request) -> None:
        given = request.headers.get("authorization", "")
        if self._token and not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            raise status.unauthorized()

    def _document(self, path: str) -> Response:
        if not path:
            return _json(self._openapi.index())
        document = self._openapi.document(path)
        return _unknown_path() if document is None else _response(document)

    async def _api(self, request: Request, parts: Sequence[str], send: Send) -> Response | None:
        core = parts[0] == "api"
        if len(parts) == 1:
            return self._discover(request, core=core)
        if not core and len(parts) == 2:
            return _found(discovery.group(self._registry, parts[1]))
        if not self._prepared:
            await self._resources.prepare()
            self._prepared = True
        group, version, *rest = ["", *parts[1:]] if core else parts[1:]
        if not rest:
            return _found(discovery.resource_list(self._registry, group, version))
        return await self._resource(request, group, version, rest, send)

    def _discover(self, request: Request, *, core: bool) -> Response:
        accept = request.headers.get("accept", "")
        for version in _AGGREGATED:
            media = f"{JSON};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
            if media in accept.replace(" ", ""):
                response = _json(discovery.aggregated(self._registry, version, core=core))
                response.headers["content-type"] = media
                response.headers["vary"] = "Accept"
                return response
        if core:
            return _json(discovery.api_versions(request.headers.get("host", "")))
        return _json(discovery.group_list(self._registry))

    async def _resource(
        self, request: Request, group: str, version: str, rest: Sequence[str], send: Send
    ) -> Response | None:
        if review := REVIEWS.get((group, version, rest[0])):
            return _json(await review(request), 201)
        namespace, plural, name, subresource = _place(rest)
        kind = self._registry.find(group, version, plural)
        if kind is None or (namespace and not kind.namespaced) or (name and kind.namespaced and not namespace):
            return _unknown_path()
        if subresource and subresource not in self._registry.subresources(kind):
            return _unknown_path()
        call = Call(
            method=request.method,
            kind=kind,
            namespace=namespace,
            name=name,
            subresource=subresource,
            query=dict(request.query_params),
            accept=request.headers.get("accept", ""),
            content_type=media_type(request),
            body=await _body(request),
            agent=request.headers.get("user-agent", ""),
        )
        if kind.stored and call.method == "GET" and call.flag("watch"):
            await self._watches.serve(call, request.receive, send)
            return None
        answer = await self._handler(call)(call)
        return _json(answer.body, answer.code, answer.warnings)

    def _handler(self, call: Call) -> Callable[[Call], Awaitable[Answer]]:
        if not call.kind.stored:
            return self._sources.handler(call)
        resources = self._resources
        collection = {"GET": resources.list_, "POST": resources.create, "DELETE": resources.delete_collection}
        single = {
            "GET": resources.get,
            "PUT": resources.update,
            "PATCH": resources.patch,
            "DELETE": resources.delete,
        }
        if call.method == "POST" and not call.name and call.kind.namespaced and not call.namespace:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        found = (single if call.name else collection).get(call.method)
        if found is None or (call.subresource and call.method == "DELETE"):
            raise status.method_not_allowed()
        return found


def _place(rest: Sequence[str]) -> tuple[str, str, str, str]:
    """Namespace, plural, name and subresource of a path below the group version."""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, below = rest[1], rest[2:]
    else:
        namespace, below = "", rest
    plural, name, *subresource = [*below, ""] if len(below) == 1 else below
    return namespace, plural, name, "/".join(subresource)


async def _body(request: Request) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        chunks.append(chunk)
        size += len(chunk)
        if size > BODY_LIMIT:
            raise ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {BODY_LIMIT}")
    return b"".join(chunks)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _found(body: JsonObject | None) -> Response:
    return _unknown_path() if body is None else _json(body)


def _json(body: JsonObject, code: int = 200, warnings: Sequence[str] = ()) -> Response:
    response = _response(msgspec.json.encode(body), code)
    for text in warnings:
        quoted = text.replace("\\", "\\\\").replace('"', '\\"').encode("ascii", "replace").decode()
        response.headers.append("warning", f'299 - "{quoted}"')
    return response


def _response(body: bytes, code: int = 200) -> Response:
    return Response(body, code, headers={"cache-control": _NO_CACHE}, media_type=JSON)


def _unknown_path() -> Response:
    return PlainTextResponse("404 page not found\n", 404, headers={"cache-control": _NO_CACHE})
