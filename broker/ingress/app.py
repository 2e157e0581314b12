"""The ASGI side of the ingress: a FastAPI application that passes events to the core before any routing.

A FastAPI route costs four bare requests; a plain callable costs none. So everything that posts an event is taken in
`__call__`, and the rest is ordinary FastAPI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.responses import PlainTextResponse, Response

from broker import __version__
from broker.ingress.answers import WEBHOOK, Answer, probe, problem, too_large

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from broker.ingress.core import Ingress

OPERATIONAL = frozenset({"/healthz", "/readyz"})
"""Paths that FastAPI serves. They cannot be Brokers: those have a namespace before them."""


class IngressApp(FastAPI):
    """Serves `ingress` over ASGI, with `/healthz` and `/readyz`."""

    def __init__(self, ingress: Ingress) -> None:
        super().__init__(title="Penstock", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
        self._ingress = ingress
        self.add_api_route("/healthz", _healthz, methods=["GET", "HEAD"])
        self.add_api_route("/readyz", self._readyz, methods=["GET", "HEAD"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take events; leave the operational paths, lifespan and websockets to FastAPI."""
        if scope["type"] != "http" or (scope["method"] != "POST" and scope["path"] in OPERATIONAL):
            await super().__call__(scope, receive, send)
            return
        answer = await self._answer(scope, receive)
        if answer is not None:
            await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
            await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer | None:
        """The answer, None when the client went away."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if scope["method"] != "POST":
            return self._other_method(scope["method"], headers)
        host, length = b"", b""
        for name, value in headers:
            if name == b"host":
                host = value
            elif name == b"content-length":
                length = value
            elif name == b"k-network-probe":
                return _probe(headers)
        target = self._ingress.target(scope["path"], host.decode("latin-1"))
        if isinstance(target, Answer):
            return target
        limit = self._ingress.body_limit(target)
        if length.isdigit() and int(length) > limit:
            return too_large(limit)
        body = await _body(receive, limit)
        if body is None or isinstance(body, Answer):
            return body
        return await self._ingress.post(target, headers, body)

    def _other_method(self, method: str, headers: list[tuple[bytes, bytes]]) -> Answer:
        if method == "OPTIONS":
            return WEBHOOK
        by_name = dict(headers)
        if b"k-network-probe" in by_name:
            return _probe(headers)
        if by_name.get(b"user-agent", b"").startswith(b"kube-probe/"):
            reason = self._ingress.not_ready
            return problem(503, reason, retry_after=1) if reason else Answer(200)
        return problem(405, f"{method} is not allowed: POST an event, or ask for OPTIONS")

    async def _readyz(self) -> Response:
        reason = self._ingress.not_ready
        return PlainTextResponse(reason or "ok", 503 if reason else 200)


async def _healthz() -> Response:
    return PlainTextResponse("ok")


def _probe(headers: list[tuple[bytes, bytes]]) -> Answer:
    by_name = dict(headers)
    if by_name[b"k-network-probe"] != b"probe":
        return problem(400, "the header K-Network-Probe must be 'probe'")
    return probe(by_name.get(b"k-network-hash"))


async def _body(receive: Receive, limit: int) -> bytes | Answer | None:
    """The whole body, a 413, or None when the client went away. What is not read, uvicorn reads and drops."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            return too_large(limit)
        if not message.get("more_body", False):
            return b"".join((*chunks, chunk)) if chunks else chunk
        chunks.append(chunk)
