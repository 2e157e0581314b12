"""What system tests share: the real program in a process of its own, a subscriber, and a publisher."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import httptools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

READY_TIMEOUT = 20.0

CHANNELS = ["sqlite", "jetstream"]
"""What behaves alike on every channel is tested on all of them: `parametrize("channel", CHANNELS, indirect=True)`."""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def eventually(condition: Callable[[], object], what: str, within: float = 20.0) -> None:
    """Return once `condition` holds; fail, saying `what` was expected, when it does not `within` seconds."""
    try:
        async with asyncio.timeout(within):
            while not condition():  # noqa: ASYNC110 - what is waited for happens in another process
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {within} s: {what}") from None


class Penstock:
    """`penstock serve` as a process that can be killed and started again on the same data directory and ports."""

    def __init__(self, data: Path, *args: str, env: Mapping[str, str] | None = None) -> None:
        self.data = data
        self.port = free_port()
        self.api_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.api = f"http://127.0.0.1:{self.api_port}"
        self.log = data.parent / f"{data.name}.log"
        self.kubeconfig = data / "kubeconfig"
        self._args = args
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start the process; do not wait for it."""
        command = [sys.executable, "-m", "broker", "serve", "--data", str(self.data)]
        command += ["--listen", f"127.0.0.1:{self.port}", "--api", f"127.0.0.1:{self.api_port}", *self._args]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._env)

    async def start(self) -> None:
        """Start the process and wait until it is ready."""
        self.launch()
        await eventually(self._ready_or_dead, "penstock serve is ready", READY_TIMEOUT)
        assert self.alive, self.log.read_text()[-4000:]

    def _ready_or_dead(self) -> bool:
        return not self.alive or self.ready()

    def ready(self) -> bool:
        """Whether /readyz says so."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """SIGKILL, and wait for the end of the process."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        assert self._process is not None
        self._process.send_signal(number)

    async def stop(self, within: float = 40.0) -> int:
        """SIGTERM; return the exit code. The subscribers of this event loop go on meanwhile."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self._process.wait, within)

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self.alive:
            self.kill()

    def kubectl(self, *args: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """The real kubectl with `kubeconfig`: DATA/kubeconfig, unless a test joins another API server."""
        env = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        kubectl = shutil.which("kubectl")
        assert kubectl, "kubectl is not on the PATH: see scripts/test"
        return subprocess.run(
            [kubectl, *args], input=stdin, capture_output=True, text=True, env=env, check=check, timeout=50
        )

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        """Kubectl apply these objects, and fail with what it said."""
        done = self.kubectl("apply", "-f", "-", stdin="\n".join(json.dumps(one) for one in manifests), check=False)
        assert done.returncode == 0, done.stderr

    def wait_ready(self, *names: str) -> None:
        """Kubectl wait until these objects (`broker/default`) are Ready, and fail with what they say if not."""
        done = self.kubectl("wait", "--for=condition=Ready", "--timeout=20s", *names, check=False)
        assert done.returncode == 0, done.stderr + self.kubectl("get", "triggers,brokers", "-o", "yaml").stdout

    def dead_letters(self, namespace: str = "default") -> list[dict[str, Any]]:
        """All dead deliveries, page by page."""
        items: list[dict[str, Any]] = []
        token = ""
        while True:
            url = f"{self.api}/apis/penstock.dev/v1alpha1/namespaces/{namespace}/deadletters?limit=500&continue={token}"
            with urllib.request.urlopen(url, timeout=20) as answer:
                page = json.load(answer)
            items += page["items"]
            token = page["metadata"].get("continue", "")
            if not token:
                return items


def broker(name: str = "default", **spec: Any) -> dict[str, Any]:
    """A Broker manifest."""
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Broker",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def trigger(name: str, uri: str, *, annotations: Mapping[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A Trigger manifest: `uri` is its subscriber, `spec` adds broker, filters, delivery."""
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": {"name": name, "namespace": "default", "annotations": dict(annotations or {})},
        "spec": {"broker": "default", **spec, "subscriber": {"uri": uri}},
    }


@dataclass(frozen=True)
class Request:
    """What a subscriber got: header names in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers.get("ce-id", "")


@dataclass(frozen=True)
class Reply:
    """What a subscriber answers."""

    status: int = 204
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Handler(Protocol):
    """Answers a request; None leaves it without an answer."""

    def __call__(self, request: Request) -> Reply | None: ...


@dataclass
class Sink:
    """A subscriber: `url`, and every request it got."""

    url: str
    requests: list[Request]

    def ids(self, path: str | None = None) -> list[str]:
        return [request.id for request in self.requests if path is None or request.path == path]


class _SinkProtocol(asyncio.Protocol):
    def __init__(self, handler: Handler, seen: list[Request], connections: set[asyncio.Transport]) -> None:
        self._connections = connections
        self._handler = handler
        self._seen = seen
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._path = ""
        self._headers: dict[str, str] = {}
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._transport is not None:
            self._connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._path, self._headers, self._body = "", {}, b""

    def on_url(self, url: bytes) -> None:
        self._path += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        request = Request(self._path, self._headers, self._body)
        self._seen.append(request)
        reply = self._handler(request)
        if reply is None or self._transport is None or self._transport.is_closing():
            return
        head = f"HTTP/1.1 {reply.status} X\r\n" + "".join(f"{name}: {value}\r\n" for name, value in reply.headers)
        if reply.status != 204:
            head += f"content-length: {len(reply.body)}\r\n"
        self._transport.write(head.encode("latin-1") + b"\r\n" + reply.body)


@contextlib.asynccontextmanager
async def sink(handler: Handler | None = None, port: int = 0) -> AsyncIterator[Sink]:
    """A subscriber on this event loop; it answers 204 unless `handler` says otherwise."""
    seen: list[Request] = []

    def accept(request: Request) -> Reply:  # noqa: ARG001 - every request is answered alike
        return Reply()

    loop = asyncio.get_running_loop()
    connections: set[asyncio.Transport] = set()
    server = await loop.create_server(lambda: _SinkProtocol(handler or accept, seen, connections), "127.0.0.1", port)
    try:
        yield Sink(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen)
    finally:
        server.close()
        for connection in list(connections):
            connection.abort()
        await server.wait_closed()
        # The loop closes the sockets in its next round.
        await asyncio.sleep(0)


class Publisher:
    """One keep-alive connection that posts events."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, headers: Mapping[str, str], body: bytes = b"") -> int:
        """The status of the answer. Raises OSError or EOFError when there was none: the event may be stored or not."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n{lines}\r\n"
        try:
            writer.write(head.encode("latin-1") + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1]) for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length")
            )
            await reader.readexactly(length)
        except (OSError, EOFError):
            self.close()
            raise
        return int(answer.split(b" ", 2)[1])

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def event(event_id: str, event_type: str = "test.event", **attributes: str) -> dict[str, str]:
    """The headers of an event in binary mode."""
    extra = {f"ce-{name}": value for name, value in attributes.items()}
    return {"ce-specversion": "1.0", "ce-id": event_id, "ce-source": "/tests", "ce-type": event_type, **extra}


@dataclass
class Failing:
    """A handler whose subscribers fail a number of times for each event: `/fail-3/...` answers 500 three times."""

    seen: dict[tuple[str, str], int]

    def __call__(self, request: Request) -> Reply:
        key = (request.path, request.id)
        self.seen[key] = self.seen.get(key, 0) + 1
        first = request.path.strip("/").split("/")[0]
        fails = int(first.removeprefix("fail-")) if first.startswith("fail-") else 0
        return Reply(500) if self.seen[key] <= fails else Reply()


@contextlib.asynccontextmanager
async def publishing(port: int) -> AsyncIterator[Publisher]:
    """A publisher's connection."""
    publisher = Publisher(port)
    try:
        yield publisher
    finally:
        publisher.close()
