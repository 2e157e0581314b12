"""`penstock send`, seen by the receiver: a real HTTP server, and the CloudEvents SDK to read what came."""

from __future__ import annotations

import io
import json
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import typer
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from broker.commands import messages, send

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typer.testing import Result

EVENT = b'{"specversion":"1.0","id":"%s","source":"/s","type":"t","data":{"price": 1.10}}'


@dataclass
class Receiver:
    """Keeps what it gets and answers 202, or what was put into `answers` (status, headers, body), in order."""

    url: str = ""
    got: list[HTTPMessage] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            state.got.append(HTTPMessage({k.lower(): v for k, v in self.headers.items()}, body))
            status, headers, answer = state.answers.pop(0) if state.answers else (202, {}, b"")
            self.send_response(status)
            for name, value in (headers | {"content-length": str(len(answer))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            """Nothing: the test has `got`."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        server.shutdown()
        thread.join()


def run(*args: str, stdin: bytes = b"") -> Result:
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(send.send)
    return CliRunner().invoke(app, list(args), input=stdin, catch_exceptions=False)


def test_an_event_made_of_flags_is_what_the_sdk_reads(receiver: Receiver) -> None:
    """Every attribute arrives, percent-encoded on the way, and the data as given."""
    flags = (
        "--type",
        "com.example",
        "--source",
        "/here",
        "--id",
        "1",
        "--subject",
        "Zürich 100%",
        "--attr",
        "tenant=a b",
    )
    result = run("default/orders", "--url", receiver.url, *flags, "--json", '{"price":  1.10}')

    assert result.exit_code == 0, result.output
    (message,) = receiver.got
    assert message.body == b'{"price":  1.10}'
    event = from_http_event(message)
    assert (event.get_id(), event.get_type(), event.get_source()) == ("1", "com.example", "/here")
    assert event.get_subject() == "Zürich 100%"
    assert event.get_extension("tenant") == "a b"
    assert event.get_time() is not None
    assert event.get_datacontenttype() == "application/json"
    assert result.stdout.splitlines()[1].split() == ["1", "202", "accepted"]


def test_a_broker_is_addressed_by_namespace_and_name() -> None:
    assert send.address("default/orders", "http://localhost:8080/") == "http://localhost:8080/default/orders"
    assert send.address("http://localhost:9000/x", "http://other") == "http://localhost:9000/x"


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("a.json", "application/json"), ("a.txt", "text/plain"), ("a", "application/octet-stream")],
)
def test_a_data_file_is_sent_as_bytes(receiver: Receiver, tmp_path: Path, name: str, content_type: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\x00")
    assert run(receiver.url, "--data-file", str(tmp_path / name)).exit_code == 0
    assert receiver.got[0].body == b"\xff\x00"
    assert receiver.got[0].headers["content-type"] == content_type


PRETTY = b'{\n  "specversion": "1.0", "id": "p",\n  "source": "/s", "type": "t", "data": {"price": 1.10}\n}'


@pytest.mark.parametrize(
    ("content", "bodies"),
    [
        pytest.param(PRETTY + b"\n", [PRETTY], id="one event over several lines"),
        pytest.param(EVENT % b"a" + b"\n\n" + EVENT % b"b", [EVENT % b"a", EVENT % b"b"], id="one event a line"),
        pytest.param(b"[" + PRETTY + b",\n" + EVENT % b"b" + b"]", [PRETTY, EVENT % b"b"], id="an array"),
    ],
)
def test_structured_events_are_sent_untouched(
    receiver: Receiver, tmp_path: Path, content: bytes, bodies: list[bytes]
) -> None:
    """What stands in the file goes out byte by byte, in structured mode."""
    (tmp_path / "events").write_bytes(content)
    result = run(receiver.url, "-f", str(tmp_path / "events"), "--concurrency", "1")
    assert result.exit_code == 0, result.output
    assert [message.body for message in receiver.got] == bodies
    assert {message.headers["content-type"] for message in receiver.got} == {"application/cloudevents+json"}


def test_stdin_is_read_line_by_line(receiver: Receiver) -> None:
    result = run(receiver.url, "-f", "-", "-o", "json", stdin=EVENT % b"a" + b"\n" + EVENT % b"b" + b"\n")
    assert result.exit_code == 0, result.output
    assert sorted(json.loads(text)["id"] for text in result.stdout.splitlines()) == ["a", "b"]
    assert len(receiver.got) == 2


def test_a_broken_line_stops_after_the_events_before_it(receiver: Receiver) -> None:
    """The events before the fault are posted, the message names the line."""
    result = run(receiver.url, "-f", "-", stdin=EVENT % b"a" + b"\n\n" + b"{oops\n" + EVENT % b"c")
    assert result.exit_code == 1
    assert result.stderr.startswith("penstock: stdin, line 3: not a JSON object")
    assert [json.loads(message.body)["id"] for message in receiver.got] == ["a"]


def test_many_events_are_summed_up(receiver: Receiver) -> None:
    """Each has an id of its own, and people get one line in place of thirty."""
    result = run(receiver.url, "--count", "30", "--id", "n", "--rate", "10000/s")
    assert result.exit_code == 0, result.output
    assert {message.headers["ce-id"] for message in receiver.got} == {f"n-{k}" for k in range(1, 31)}
    (summary,) = result.stdout.splitlines()
    assert summary.startswith("30 of 30 events accepted (")


def test_a_refusal_shows_the_problem_and_what_to_do(receiver: Receiver) -> None:
    """The detail of the problem document stands beside the id; the exit code is 1."""
    problem = json.dumps({"title": "Not Found", "detail": "there is no Broker 'x'"}).encode()
    receiver.answers = [(404, {"content-type": "application/problem+json"}, problem)]
    result = run(receiver.url, "--id", "1")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[1].split(maxsplit=2) == ["1", "404", "there is no Broker 'x'"]
    assert result.stderr.count("\n") == 1
    assert "1 of 1 event not accepted" in result.stderr
    assert "kubectl get brokers" in result.stderr


def test_503_is_tried_again_with_the_same_event(receiver: Receiver) -> None:
    """`Retry-After` is honoured, and the id stays."""
    receiver.answers = [(503, {"retry-after": "0"}, b""), (429, {"retry-after": "0"}, b"")]
    result = run(receiver.url, "--retry", "2", "-o", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) | {"id": ""} == {
        "id": "",
        "accepted": True,
        "status": 202,
        "detail": "",
        "attempts": 3,
    }
    assert len({message.headers["ce-id"] for message in receiver.got}) == 1


def test_retries_end(receiver: Receiver) -> None:
    receiver.answers = [(503, {"retry-after": "0"}, b"full")] * 2
    result = run(receiver.url, "--retry", "1", "-o", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) | {"id": ""} == {
        "id": "",
        "accepted": False,
        "status": 503,
        "detail": "full",
        "attempts": 2,
    }


def test_400_is_not_tried_again(receiver: Receiver) -> None:
    receiver.answers = [(400, {}, b"bad")]
    assert run(receiver.url, "--retry", "3").exit_code == 1
    assert len(receiver.got) == 1


def test_nobody_there_is_said() -> None:
    with socket.socket() as taken:  # bound, not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        result = run("default/default", "--url", f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert result.exit_code == 1
    assert "is `penstock serve` running there?" in result.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        pytest.param(["default"], "NAMESPACE/BROKER", id="no namespace"),
        pytest.param(["a/b/c"], "NAMESPACE/BROKER", id="three parts"),
        pytest.param(["ftp://a/b"], "does not begin with http://", id="another scheme"),
        pytest.param(["http:///x"], "is no host", id="no host"),
        pytest.param(["a/b", "--json", "{"], "--json: '{' is not JSON", id="broken JSON"),
        pytest.param(["a/b", "--json", "1", "--data", "1"], "exclude each other", id="two kinds of data"),
        pytest.param(["a/b", "--attr", "Tenant=a"], "--attr 'Tenant=a'", id="upper case attribute"),
        pytest.param(["a/b", "--attr", "tenant"], "NAME=VALUE", id="attribute without value"),
        pytest.param(["a/b", "--attr", "tenant="], "may not be empty", id="empty attribute"),
        pytest.param(["a/b", "--attr", "datacontenttype=x/y"], "--content-type 'x/y'", id="content type as attribute"),
        pytest.param(["a/b", "--content-type", "a\nb"], "media type", id="content type of two lines"),
        pytest.param(["a/b", "--rate", "fast"], "--rate 'fast'", id="rate in words"),
        pytest.param(["a/b", "--rate", "0/s"], "above 0", id="no rate"),
        pytest.param(["a/b", "--rate", "1/y"], "--rate '1/y'", id="odd unit"),
        pytest.param(["a/b", "-f", "missing.json"], "No such file", id="no such file"),
        pytest.param(["a/b", "--data-file", "missing"], "No such file", id="no such data file"),
        pytest.param(["a/b", "-f", "-", "--type", "t"], "whole events", id="flags beside a file"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(args: list[str], says: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stderr.startswith("penstock: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("rate", "seconds"), [(None, 0.0), ("50/s", 0.02), ("50", 0.02), ("30/m", 2.0), ("1/h", 3600.0), ("0.5/s", 2.0)]
)
def test_a_rate_is_seconds_between_events(rate: str | None, seconds: float) -> None:
    assert send.interval(rate) == pytest.approx(seconds)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=4), min_size=1, max_size=5), st.booleans())
def test_reading_keeps_each_event_byte_by_byte(events: list[dict[str, Any]], as_array: bool) -> None:
    """One event a line and an array of events give the same messages."""
    texts = [json.dumps(event).encode() for event in events]
    content = b"[" + b" , ".join(texts) + b"]" if as_array else b"\n".join(texts)
    assert [message.body for message in messages.read(io.BytesIO(content), "f")] == texts


@given(st.binary(max_size=40))
def test_any_bytes_are_events_or_one_clear_error(content: bytes) -> None:
    try:
        list(messages.read(io.BytesIO(content), "f"))
    except messages.InvalidInput as error:
        assert str(error).startswith("f")  # noqa: PT017 - most inputs raise, some need not


COMMAND = """
import typer
from broker.commands.send import send
app = typer.Typer(rich_markup_mode=None)
app.command()(send)
app()
"""


def test_ctrl_c_ends_it_while_stdin_is_silent(receiver: Receiver) -> None:
    """A pipe that says nothing more does not hold the command, and what was sent is told."""
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, receiver.url, "-f", "-", "-o", "json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(EVENT % b"a" + b"\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == "a"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 1
        assert process.stderr is not None
        assert process.stderr.read() == b"penstock: interrupted (1 accepted before that)\n"


def test_help_has_examples() -> None:
    assert "penstock send default/default -f events.ndjson --retry 5" in run("--help").stdout
