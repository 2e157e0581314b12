"""`penstock explain`: which Triggers of a Broker want an event, and what in the filters of the others says no."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.commands import messages
from broker.commands.console import USAGE, Output, count, document, fail, line, note, printable
from broker.commands.kube_api import Kubeconfig, ask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from controller.kube.client import KubeClient
    from controller.objects.kind import JsonObject
    from eventing.explain import Explanation

_HEADERS = ((b"content-type", b"application/cloudevents+json"),)


def explain(
    file: Annotated[
        Path, typer.Option("-f", "--file", metavar="FILE", help="The event as JSON (structured mode); - is stdin.")
    ],
    namespace: Annotated[str, typer.Option("--namespace", "-n", metavar="NAME", help="The Broker's.")] = "default",
    broker: Annotated[str, typer.Option("--broker", metavar="NAME", help="Whose Triggers are asked.")] = "default",
    output: Annotated[
        Output, typer.Option("-o", "--output", help="For eyes, or one JSON document a Trigger.")
    ] = Output.TABLE,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Say for each Trigger of a Broker whether it wants an event, and which term of its filter does not match.

    The event is not sent. Each term is shown with + or - and the values that the event has; a filter that cannot be
    compiled is shown with its reason: its Trigger delivers nothing until that is mended.

    For example:

      penstock explain -f event.json

      penstock explain -f - -n shop --broker orders -o json < event.json
    """
    try:
        attributes = read_attributes(file)
    except messages.InvalidInput as error:
        fail(str(error), USAGE)
    verdicts = [judge(trigger, attributes) for trigger in ask(kubeconfig, lambda kube: _found(kube, namespace, broker))]
    for verdict in verdicts:
        if output is Output.JSON:
            document(_json(verdict, namespace, broker))
        else:
            for row in rows(verdict):
                line(row)
    matching = sum(verdict.matches is True for verdict in verdicts)
    note(
        f"{matching} of {count(len(verdicts), 'Trigger')} of {namespace}/{broker} want{'s' * (matching == 1)} the event"
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one Trigger makes of the event. `fault` says why its filter cannot be compiled; then nothing is explained.

    `not_ready` says why the Trigger is not Ready: it may match and yet deliver nothing now.
    """

    trigger: str
    explanation: Explanation | None
    fault: str = ""
    not_ready: str = ""

    @property
    def matches(self) -> bool | None:
        """None where that cannot be known: the Trigger keeps its place in the log until its filter is mended."""
        return None if self.explanation is None else self.explanation.matched


def read_attributes(path: Path) -> Mapping[str, str]:
    """The attributes that filters see of the event in a file, as a Broker would take it now. Raises InvalidInput."""
    from eventing.errors import InvalidEvent  # noqa: PLC0415 - only what a command needs is imported for it
    from eventing.http_binding import admit, parse  # noqa: PLC0415 - as above
    from eventing.timestamps import rfc3339  # noqa: PLC0415 - as above

    name = "stdin" if str(path) == "-" else str(path)
    with messages.opened(path) as file:
        found = list(islice(messages.read(file, name), 2))
    if len(found) != 1:
        number = "more than one event" if found else "no event"
        raise messages.InvalidInput(f"{name} holds {number}: explain takes one, as a JSON object")
    try:
        return admit(parse(_HEADERS, found[0].body), rfc3339(time.time())).attributes
    except InvalidEvent as error:
        raise messages.InvalidInput(f"{name}: a Broker would refuse this event: {error}") from error


def judge(trigger: JsonObject, attributes: Mapping[str, str]) -> Verdict:
    """What the Trigger makes of an event with these attributes, by the rules of the reconciler and the dispatcher."""
    from controller.objects.field_errors import joined  # noqa: PLC0415 - only what a command needs is imported for it
    from controller.objects.validate_trigger import filter_faults  # noqa: PLC0415 - as above
    from controller.objects.views import child, condition_of, name_of, string  # noqa: PLC0415 - as above
    from eventing import explain as explaining  # noqa: PLC0415 - as above
    from eventing.errors import InvalidFilter  # noqa: PLC0415 - as above
    from eventing.filters import parse_filter  # noqa: PLC0415 - as above

    name = name_of(trigger).name
    ready = condition_of(trigger, "Ready") or {"status": "Unknown", "reason": "its status has no condition Ready"}
    parts = [text for text in (string(ready, "reason"), string(ready, "message")) if text]
    not_ready = "" if ready.get("status") == "True" else ": ".join(parts) or "no reason is given"
    fault = joined(filter_faults(trigger))
    if not fault:
        try:
            return Verdict(
                name, explaining.explain(parse_filter(child(trigger, "spec")), attributes), not_ready=not_ready
            )
        except InvalidFilter as error:
            fault = str(error)
    return Verdict(name, None, fault, not_ready)


def rows(verdict: Verdict) -> Iterator[str]:
    """A verdict for eyes: one line, and one for each part of the filter."""
    if verdict.explanation is None:
        yield f"{verdict.trigger}  the filter cannot be compiled: {printable(verdict.fault)}"
    else:
        yield f"{verdict.trigger}  {'matches' if verdict.matches else 'does not match'}"
        yield from _part_rows(verdict.explanation, 1)
    if verdict.not_ready and not verdict.fault:
        yield f"  (the Trigger is not Ready: {printable(verdict.not_ready)})"


def _part_rows(part: Explanation, depth: int) -> Iterator[str]:
    from eventing.attributes import quote  # noqa: PLC0415 - only what a command needs is imported for it

    compared = ", ".join(
        f"the event has no {name}" if value is None else f"{name} is {quote(value)}" for name, value in part.compared
    )
    details = "; ".join(text for text in (compared, part.error if not part.parts else "") if text)
    shown = f"{'  ' * depth}{'+' if part.matched else '-'} {part.term}"
    yield printable(f"{shown}    ({details})" if details else shown)
    for each in part.parts:
        yield from _part_rows(each, depth + 1)


def _json(verdict: Verdict, namespace: str, broker: str) -> dict[str, Any]:
    return {
        "namespace": namespace,
        "broker": broker,
        "trigger": verdict.trigger,
        "matches": verdict.matches,
        "fault": verdict.fault,
        "notReady": verdict.not_ready,
        "explanation": None if verdict.explanation is None else _part_json(verdict.explanation),
    }


def _part_json(part: Explanation) -> dict[str, Any]:
    return {
        "term": part.term,
        "matched": part.matched,
        "compared": [{"attribute": name, "value": value} for name, value in part.compared],
        "error": part.error,
        "parts": [_part_json(each) for each in part.parts],
    }


async def _found(kube: KubeClient, namespace: str, broker: str) -> Iterable[JsonObject]:
    """The Triggers of the Broker, by name. Raises NotFound where there is no such Broker."""
    from controller.objects.eventing_kinds import broker_kind, trigger_kind  # noqa: PLC0415 - only what a command needs is imported for it
    from controller.objects.views import broker_key, name_of  # noqa: PLC0415 - as above

    await kube.get(broker_kind(), namespace, broker)
    listed = await kube.list(trigger_kind(), namespace)
    return sorted((item for item in listed.items if broker_key(item).name == broker), key=name_of)
