"""Requests to the Kubernetes API: kinds are data, objects are plain JSON, and every failure is one of `errors`."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import quote

import httpx
import msgspec

from controller.kube.errors import AlreadyExists, ApiUnavailable, Gone, Invalid, KubeconfigError, NotFound, error_of
from controller.kube.transport import TokenAuth, make_transport
from controller.objects.kind import Kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from controller.kube.config import KubeConfig
    from controller.kube.errors import KubeError
    from controller.objects.kind import JsonObject

FIELD_MANAGER = "penstock"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
PAGE = 500
"""Objects for each request of a list: what kubectl asks for. It bounds the memory of both sides."""
TIMEOUT = 30.0
"""Seconds to wait for an answer, or for the next bytes of it."""
WATCH_GRACE = 30.0
"""Seconds past the time at which the server should have ended a watch: more silence means it is gone."""

_SERVER_MADE = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")
"""Metadata that the server writes: a manifest that was saved from a cluster has it, and it must not be sent back."""


class WatchEvent(NamedTuple):
    """One change: `type` is ADDED, MODIFIED, DELETED or BOOKMARK (its object has only a resourceVersion)."""

    type: str
    object: JsonObject


@dataclass(frozen=True, slots=True)
class ObjectList:
    """All objects of a list, and the version from which a watch goes on."""

    items: list[JsonObject]
    resource_version: str


class Applied(NamedTuple):
    """What became of a manifest, in kubectl's words, and the object as it is now."""

    action: Literal["created", "configured", "unchanged"]
    object: JsonObject


class KubeClient:
    """One API server. `async with KubeClient(config) as kube`.

    Every method raises a KubeError. `namespace` is "" for kinds without one and, in `list` and `watch`, for all namespaces.
    """

    def __init__(self, config: KubeConfig, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.config = config
        self._http = httpx.AsyncClient(
            base_url=config.server,
            transport=transport or make_transport(config),
            auth=TokenAuth(config.token, config.token_file) if config.token or config.token_file else None,
            headers={"Accept": "application/json", "User-Agent": FIELD_MANAGER},
            timeout=httpx.Timeout(TIMEOUT, pool=None),
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def get(self, kind: Kind, namespace: str, name: str) -> JsonObject:
        """The object. Raises NotFound."""
        return await self._request("GET", _path(kind, namespace, name))

    async def create(self, kind: Kind, obj: JsonObject) -> JsonObject:
        """Make the object, in its `metadata.namespace` or else the default one. Raises AlreadyExists, Invalid.

        A field that the schema does not know is an error, as with kubectl.
        """
        namespace = obj["metadata"].get("namespace") or self.config.namespace
        return await self._request("POST", _path(kind, namespace), body=obj, params=_WRITE)

    async def patch(
        self, kind: Kind, namespace: str, name: str, patch: JsonObject, *, subresource: str = ""
    ) -> JsonObject:
        """Merge `patch` into the object (RFC 7396). A `metadata.resourceVersion` in it is a precondition: Conflict."""
        path = _path(kind, namespace, name, subresource)
        return await self._request(
            "PATCH", path, body=patch, params=_WRITE, content_type="application/merge-patch+json"
        )

    async def patch_status(
        self, kind: Kind, namespace: str, name: str, patch: JsonObject, *, resource_version: str | None = None
    ) -> JsonObject:
        """Merge `patch` (`{"status": ...}`) into the status. With `resource_version` only if the object still has it: Conflict."""
        if resource_version is not None:
            patch = {**patch, "metadata": {**patch.get("metadata", {}), "resourceVersion": resource_version}}
        return await self.patch(kind, namespace, name, patch, subresource="status")

    async def create_or_patch(self, kind: Kind, manifest: JsonObject) -> Applied:
        """Make the object as the manifest has it, or merge the manifest into it. Its status is left out.

        Fields that are gone from the manifest stay: kubectl's annotation, which would know of them, is kubectl's own.
        """
        wanted = _clean(manifest)
        metadata = wanted["metadata"]
        namespace = metadata.get("namespace") or self.config.namespace
        try:
            before = await self.get(kind, namespace, metadata["name"])
        except NotFound:
            try:
                return Applied("created", await self.create(kind, wanted))
            except AlreadyExists:
                before = await self.get(kind, namespace, metadata["name"])
        after = await self.patch(kind, namespace, metadata["name"], wanted)
        unchanged = before["metadata"].get("resourceVersion") == after["metadata"].get("resourceVersion")
        return Applied("unchanged" if unchanged else "configured", after)

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str | None = None) -> None:
        """Delete the object; with `uid` only that very one (Conflict). Raises NotFound. Finalizers may keep it for a while."""
        options: JsonObject = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        await self._request("DELETE", _path(kind, namespace, name), body=options)

    async def post(self, kind: Kind, namespace: str, name: str, subresource: str, body: JsonObject) -> JsonObject:
        """Ask for an action that is a subresource, as `retry` of a dead letter is."""
        return await self._request("POST", _path(kind, namespace, name, subresource), body=body)

    async def replace(self, kind: Kind, obj: JsonObject) -> JsonObject:
        """Put `obj` in the place of the object of its name. Its `metadata.resourceVersion` is a precondition: Conflict."""
        metadata = obj["metadata"]
        path = _path(kind, metadata.get("namespace", ""), metadata["name"])
        return await self._request("PUT", path, body=obj, params=_WRITE)

    async def version(self) -> str:
        """The version that the server says it is, such as `v1.33.1`."""
        return str((await self._request("GET", "/version")).get("gitVersion") or "")

    async def find_kind(self, group: str, name: str) -> Kind | None:
        """A kind that is known by its group and name only, at the version that the server prefers; None where it has none."""
        try:
            if group:
                preferred = (await self._request("GET", f"/apis/{quote(group, safe='')}")).get("preferredVersion") or {}
                version, path = str(preferred.get("version") or ""), f"/apis/{quote(group, safe='')}"
            else:
                version, path = "v1", "/api"
            resources = (await self._request("GET", f"{path}/{quote(version, safe='')}")).get("resources") or []
        except NotFound:
            return None
        for one in resources:
            if one.get("kind") == name and "/" not in str(one.get("name")):
                singular = str(one.get("singularName") or name.lower())
                return Kind(group, version, name, str(one["name"]), singular, namespaced=bool(one.get("namespaced")))
        return None

    async def list(self, kind: Kind, namespace: str = "", *, query: Mapping[str, str] | None = None) -> ObjectList:
        """All objects of the kind, read page by page. `query` has `labelSelector`, `fieldSelector` and the like."""
        try:
            return await self._list(kind, namespace, {**(query or {}), "limit": str(PAGE)})
        except Gone:
            # The pages took longer than the server keeps their version: one large answer cannot expire.
            return await self._list(kind, namespace, query or {})

    async def _list(self, kind: Kind, namespace: str, query: Mapping[str, str]) -> ObjectList:
        params = dict(query)
        items: list[JsonObject] = []
        version = ""
        while True:
            page = await self._request("GET", _path(kind, namespace), params=params)
            metadata = page.get("metadata") or {}
            version = version or metadata.get("resourceVersion", "")
            # Whatever else a proxy may answer, it must not pass for an empty list: that would be the deletion of all.
            if not version or "items" not in page:
                raise ApiUnavailable(f"{self.config.server} does not answer with a list of {kind.resource}")
            # Lists of core kinds leave these two out of their items; watches do not.
            items.extend(
                {"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in page.get("items") or []
            )
            if not metadata.get("continue"):
                return ObjectList(items, version)
            params["continue"] = metadata["continue"]

    async def watch(
        self,
        kind: Kind,
        resource_version: str,
        namespace: str = "",
        *,
        timeout_seconds: int = 300,
        query: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Changes after `resource_version`, with bookmarks, until the server ends it after `timeout_seconds`.

        Raises Gone when that version is too old, and ApiUnavailable when the stream breaks: go on from the last version.
        """
        params = {
            **(query or {}),
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(timeout_seconds),
        }
        request = self._http.build_request(
            "GET",
            _path(kind, namespace),
            params=params,
            timeout=httpx.Timeout(TIMEOUT, read=timeout_seconds + WATCH_GRACE, pool=None),
            headers={"Accept-Encoding": "identity"},  # a compressor would hold events back
        )
        with _translated(self.config.server):
            # The read timeout is that of a whole watch, but its head comes at once.
            async with asyncio.timeout(TIMEOUT):
                response = await self._http.send(request, stream=True)
            try:
                if response.status_code != 200:
                    await response.aread()
                    raise _answered(response)
                async for line in _lines(response):
                    yield _event(line)
            finally:
                await response.aclose()

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: JsonObject | None = None,
        content_type: str = "application/json",
    ) -> JsonObject:
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"Content-Type": content_type}
        with _translated(self.config.server):
            response = await self._http.request(method, path, params=params, content=content, headers=headers)
        decoded = _decode(response.content)
        if not response.is_success:
            raise _answered(response)
        if not isinstance(decoded, dict):
            raise ApiUnavailable(
                f"{self.config.server} does not answer as a Kubernetes API: {method} {path} gave no JSON"
            )
        return decoded


_WRITE = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}


def _path(kind: Kind, namespace: str = "", name: str = "", subresource: str = "") -> str:
    parts = ["apis", kind.group] if kind.group else ["api"]
    parts.append(kind.version)
    if kind.namespaced and namespace:
        parts += ["namespaces", namespace]
    parts += [part for part in (kind.plural, name, subresource) if part]
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _clean(manifest: JsonObject) -> JsonObject:
    metadata = {name: value for name, value in (manifest.get("metadata") or {}).items() if name not in _SERVER_MADE}
    if not metadata.get("name"):
        raise Invalid(f"a {manifest.get('kind')} without metadata.name: give it a name", 422, "Invalid", {})
    annotations = metadata.get("annotations")
    if annotations:
        metadata["annotations"] = {name: value for name, value in annotations.items() if name != LAST_APPLIED}
    return {**{name: value for name, value in manifest.items() if name != "status"}, "metadata": metadata}


@contextmanager
def _translated(server: str) -> Iterator[None]:
    """The one place where httpx's errors become ours."""
    try:
        yield
    except (httpx.TimeoutException, TimeoutError) as error:
        raise ApiUnavailable(f"the Kubernetes API at {server} did not answer in time") from error
    except (httpx.TransportError, httpx.StreamError, httpx.DecodingError) as error:
        raise ApiUnavailable(
            f"the Kubernetes API at {server} cannot be reached: {str(error) or type(error).__name__}"
        ) from error
    except httpx.InvalidURL as error:
        raise KubeconfigError(f"the server address {server} is not a URL: {error}") from error


def _answered(response: httpx.Response) -> KubeError:
    retry_after = response.headers.get("Retry-After", "")
    request = response.request
    return error_of(
        response.status_code,
        _decode(response.content),
        otherwise=f"{request.method} {request.url.copy_with(query=None)} was answered with {response.status_code}",
        retry_after=float(retry_after) if retry_after.isdecimal() else None,
    )


def _decode(content: bytes) -> Any:
    """The JSON in `content`, or None where it is something else."""
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:
        return None


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """The lines of the body. Only a line feed ends one: httpx's own splitter cuts JSON at U+0085 and U+2028."""
    rest = bytearray()
    async for chunk in response.aiter_bytes():
        *lines, tail = chunk.split(b"\n")
        for line in lines:
            rest += line
            if rest.strip():
                yield bytes(rest)
            rest.clear()
        rest += tail


class _Line(msgspec.Struct):
    type: str
    object: dict[str, Any]


def _event(line: bytes) -> WatchEvent:
    try:
        decoded = msgspec.json.decode(line, type=_Line)
    except msgspec.MsgspecError as error:
        raise ApiUnavailable(f"a line of the watch is not an event: {error}") from error
    if decoded.type == "ERROR":
        code = int(decoded.object.get("code") or 500)
        raise error_of(code, decoded.object, otherwise=f"the watch ended with error {code}")
    if not (decoded.object.get("metadata") or {}).get("resourceVersion"):
        raise ApiUnavailable("an event of the watch has no resourceVersion")
    return WatchEvent(decoded.type, decoded.object)
