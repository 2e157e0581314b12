"""The connection below the client: TLS, the token, and sockets that notice a dead peer."""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

import httpx

from controller.kube.errors import KubeconfigError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from controller.kube.config import KubeConfig

KEEPALIVE_IDLE = 60
"""Seconds of silence after which the kernel asks the peer whether it is there: a quiet watch costs nothing else."""


def make_transport(config: KubeConfig) -> httpx.AsyncHTTPTransport:
    """Connections to the server of `config`. Raises KubeconfigError when a certificate or key is no good."""
    url = httpx.URL(config.server)
    return httpx.AsyncHTTPTransport(
        verify=_ssl_context(config) if url.scheme == "https" else False,
        proxy=_proxy_for(url),
        # Each watch holds a connection for as long as it lasts, so their number is that of the kinds watched.
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=4, keepalive_expiry=30),
        socket_options=_keepalive_options(),
    )


class TokenAuth(httpx.Auth):
    """Adds the bearer token. The file is read each time: it is small, and the kubelet replaces it every hour."""

    def __init__(self, token: str | None, token_file: Path | None) -> None:
        self._token = token
        self._token_file = token_file

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        token = self._read()
        if token and request.url.scheme == "https":
            request.headers["Authorization"] = f"Bearer {token}"
        yield request

    def _read(self) -> str | None:
        if self._token_file is None:
            return self._token
        try:
            return self._token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise KubeconfigError(f"the token file {self._token_file} cannot be read: {error.strerror}") from error


def _ssl_context(config: KubeConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=config.ca)
        if config.client_cert is not None and config.client_key is not None:
            _load_client_certificate(context, config.client_cert, config.client_key)
    except (ssl.SSLError, ValueError) as error:
        raise KubeconfigError(f"a certificate or key for {config.server} cannot be used: {error}") from error
    # Python 3.13 began to demand extensions that many clusters' own CAs lack; kubectl does not ask for them either.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if config.insecure_skip_tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load_client_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """OpenSSL takes a client certificate from a file only, so one that only we can read exists for a moment."""
    descriptor, path = tempfile.mkstemp()
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{certificate}\n{key}\n")
        context.load_cert_chain(path)
    finally:
        os.unlink(path)  # noqa: PTH108 - mkstemp gave a string


def _proxy_for(url: httpx.URL) -> str | None:
    """The proxy that the environment asks for. Never for this machine, as kubectl has it."""
    if url.host in {"localhost", "127.0.0.1", "::1"} or proxy_bypass(url.host):
        return None
    return getproxies().get(url.scheme)


def _keepalive_options() -> list[tuple[int, int, int]]:
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    # Linux and macOS name the idle time differently; where there is neither, the system's default holds.
    idle = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)
    if idle is not None:
        options.append((socket.IPPROTO_TCP, idle, KEEPALIVE_IDLE))
    for name, value in (("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options
