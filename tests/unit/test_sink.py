"""`penstock sink`: what it answers, what it shows, and that it starts and ends cleanly."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest
import typer
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from typer.testing import CliRunner

from broker.commands.console import Output
from broker.commands.received import NotAnEvent, Received, receive
from broker.commands.sink import Answer, Conduct, Sink, shower, sink
from broker.http_server import serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result

COMMAND = """
import typer
from broker.commands.sink import sink
app = typer.Typer(rich_markup_mode=None)
app.command()(sink)
app()
"""


def an_event(event_id: str = "1", **attributes: str) -> Received:
    base = {"specversion": "1.0", "id": event_id, "source": "/s", "type": "t"}
    return Received(base | attributes, b'{"price": 1.10}', "binary", {})


def a_request(event_id: str = "1") -> HTTPMessage:
    attributes = {
        "id": event_id,
        "source": "/s",
        "type": "t",
        "subject": "Zürich",
        "datacontenttype": "application/json",
    }
    return to_binary_event(CloudEvent(attributes, {"a": 1}))


def run(*args: str) -> Result:
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(sink)
    return CliRunner().invoke(app, list(args), catch_exceptions=False)


@pytest.mark.parametrize(
    ("conduct", "attempt", "chance", "status"),
    [
        pytest.param(Conduct(), 1, 0.0, 204, id="by default"),
        pytest.param(Conduct(status=500), 9, 0.9, 500, id="a status for all"),
        pytest.param(Conduct(fail_first=2), 2, 0.0, 500, id="the first two fail"),
        pytest.param(Conduct(fail_first=2), 3, 0.0, 204, id="the third does not"),
        pytest.param(Conduct(fail_first=2, status=429), 1, 0.0, 429, id="failures with a status"),
        pytest.param(Conduct(fail_rate=0.3), 1, 0.29, 500, id="chance below the rate"),
        pytest.param(Conduct(fail_rate=0.3), 1, 0.3, 204, id="chance at the rate"),
        pytest.param(Conduct(fail_first=1, reply_type="r"), 1, 0.0, 500, id="a failure is no reply"),
        pytest.param(Conduct(fail_first=1, reply_type="r"), 2, 0.0, 200, id="then a reply"),
        pytest.param(Conduct(hang=True, status=200), 1, 0.0, None, id="no answer"),
    ],
)
def test_what_is_answered(conduct: Conduct, attempt: int, chance: float, status: int | None) -> None:
    assert conduct.answer(an_event(), attempt, chance).status == status


def test_a_reply_is_an_event_with_the_same_data_and_a_steady_id() -> None:
    """The SDK reads the reply, and the answer to a repeat is the same event."""
    event = an_event(subject="Zürich", datacontenttype="application/json")
    answer = Conduct(reply_type="checked").answer(event, 1, 0.0)
    assert answer.body == event.data
    reply = from_http_event(HTTPMessage({k.decode(): v.decode() for k, v in answer.headers}, answer.body))
    assert (reply.get_id(), reply.get_type(), reply.get_subject()) == ("1-reply", "checked", "Zürich")
    assert answer == Conduct(reply_type="checked").answer(event, 2, 0.0)


HEAD = [(b"ce-specversion", b"1.0"), (b"ce-id", b"1"), (b"Ce-Source", b"/s"), (b"ce-type", b"t")]
STRUCTURED = [(b"content-type", b"application/cloudevents+json; charset=utf-8")]


def structured(rest: str) -> bytes:
    return b'{"specversion":"1.0","id":"1","source":"/s","type":"t"%s}' % rest.encode()


@pytest.mark.parametrize(
    ("headers", "body", "shown"),
    [
        pytest.param([*HEAD, (b"ce-a", b"x%20%22")], b"hi", {"a": 'x "', "data": "hi"}, id="binary, percent-encoded"),
        pytest.param(HEAD, b"\xff", {"data_base64": "/w=="}, id="binary data that is no text"),
        pytest.param([*HEAD, (b"traceparent", b"00-1"), (b"host", b"h")], b"", {"traceparent": "00-1"}, id="headers"),
        pytest.param(
            STRUCTURED, structured(',"data":{"price": 1.10},"n":5'), {"data": '{"price": 1.10}', "n": "5"}, id="JSON"
        ),
        pytest.param(STRUCTURED, structured(',"datacontenttype":"text/plain","data":"hi"'), {"data": "hi"}, id="text"),
        pytest.param(STRUCTURED, structured(',"data_base64":"/w=="'), {"data_base64": "/w=="}, id="base64"),
        pytest.param(STRUCTURED, structured(""), {"data": ""}, id="no data"),
    ],
)
def test_both_modes_are_shown_alike(headers: list[tuple[bytes, bytes]], body: bytes, shown: dict[str, str]) -> None:
    document = receive(headers, body).document()
    flat = document | document["attributes"] | document["headers"]
    assert {name: flat.get(name) for name in shown} == shown
    assert "host" not in flat


@pytest.mark.parametrize(
    ("headers", "body", "says"),
    [
        pytest.param(HEAD[1:], b"", "no specversion", id="no specversion"),
        pytest.param([], b"{}", "no id, no source, no type", id="no event at all"),
        pytest.param(STRUCTURED, b"{", "not a JSON CloudEvent", id="broken JSON"),
        pytest.param(STRUCTURED, structured(',"data_base64":"*"'), "not a JSON CloudEvent", id="broken base64"),
        pytest.param([(b"content-type", b"application/cloudevents-batch+json")], b"[]", "not understood", id="a batch"),
    ],
)
def test_what_is_no_event_is_said(headers: list[tuple[bytes, bytes]], body: bytes, says: str) -> None:
    with pytest.raises(NotAnEvent, match=says):
        receive(headers, body)


class Shown(list[tuple[str, int | None, int]]):
    """What the sink showed: id, answer, attempt. `first` is set with the first."""

    def __init__(self) -> None:
        super().__init__()
        self.first = asyncio.Event()

    def show(self, event: Received, answer: Answer, attempt: int) -> None:
        self.append((event.attributes["id"], answer.status, attempt))
        self.first.set()


async def test_it_fails_first_and_counts_for_each_event() -> None:
    """Over a real socket: attempts are counted for each event by itself."""
    shown = Shown()
    app = Sink(Conduct(fail_first=1), shown.show)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        async with serving(app, sock), httpx.AsyncClient() as client:
            statuses = []
            for event_id in ("a", "a", "b"):
                message = a_request(event_id)
                statuses.append((await client.post(url, headers=message.headers, content=message.body)).status_code)
            refused = await client.post(url, content=b"hello")
            probe = await client.get(url)
    assert statuses == [500, 204, 500]
    assert shown == [("a", 500, 1), ("a", 204, 2), ("b", 500, 1)]
    assert (app.tally.events, app.tally.failed, app.tally.repeated) == (3, 2, 1)
    assert (refused.status_code, probe.status_code) == (400, 200)


@pytest.mark.parametrize("conduct", [Conduct(hang=True), Conduct(delay=3600)], ids=["hang", "delay"])
async def test_one_that_waits_ends_at_once_when_it_stops(conduct: Conduct) -> None:
    """A request that is held does not hold the sink's end."""
    shown = Shown()
    app = Sink(conduct, shown.show)
    message = a_request()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        async with serving(app, sock), httpx.AsyncClient() as client, asyncio.TaskGroup() as group:
            held = group.create_task(client.post(url, headers=message.headers, content=message.body))
            await shown.first.wait()
            assert not held.done()
            app.stopping.set()
    assert held.result().status_code == (503 if conduct.hang else 204)


@pytest.mark.parametrize("encode", [to_binary_event, to_structured_event], ids=["binary", "structured"])
def test_the_command_prints_json_and_ends_on_sigterm(encode: Callable[[CloudEvent], HTTPMessage]) -> None:
    """The whole program: says where it listens, prints one document for the event, exits with 0 and a summary."""
    message = encode(CloudEvent({"id": "1", "source": "/s", "type": "t", "datacontenttype": "text/plain"}, "hé"))
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, "--port", "0", "-o", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        invitation = [process.stderr.readline() for _ in range(3)]
        assert invitation[0].startswith("listening at http://127.0.0.1:")
        url = invitation[2].strip().removeprefix("uri: ")
        assert httpx.post(url, headers=message.headers, content=message.body).status_code == 204
        document = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        rest, summary = process.communicate(timeout=20)
    assert document["attributes"]["id"] == "1"
    assert (document["data"], document["answer"], document["attempt"]) == ("hé", 204, 1)
    assert rest == ""
    assert summary == "received 1 event (0 not answered with 2xx, 0 came again)\n"
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        pytest.param(
            ["--fail-first", "1", "--status", "200"], "--status 200 is no failure", id="a failure that is none"
        ),
        pytest.param(["--reply-type", "t", "--status", "204"], "--reply-type answers 200", id="reply and status"),
        pytest.param(["--reply-type", ""], "--reply-type is empty", id="empty type"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(args: list[str], says: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"penstock: {says}")
    assert result.stderr.count("\n") == 1


def test_a_taken_port_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("--port", str(taken.getsockname()[1]))
    assert result.exit_code == 1
    assert "choose another --port" in result.stderr


def test_the_table_is_safe_to_look_at(capsys: pytest.CaptureFixture[str]) -> None:
    """Data cannot move the cursor of who looks; the columns are headed once."""
    show = shower(Output.TABLE, shown=True)
    nasty = Received(an_event(tenant="a").attributes, b"one\ntwo\x1b[2J", "binary", {})
    show(nasty, Answer(204), 1)
    show(nasty, Answer(None), 2)
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split() == ["TIME", "ANSWER", "TYPE", "SOURCE", "ID", "DATA"]
    assert first.split()[1:] == ["204", "t", "/s", "1", "tenant=a", "one", "two\N{REPLACEMENT CHARACTER}[2J"]
    assert "none" in second
    assert "(attempt 2)" in second
