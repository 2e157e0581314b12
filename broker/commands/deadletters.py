"""`penstock deadletters`: look at the deliveries that came to no good end, try them again, or discard them."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.commands.console import Output, document, fail, line, note
from broker.commands.kube_api import Kubeconfig, ask

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from controller.kube.client import KubeClient
    from controller.objects.kind import JsonObject

app = typer.Typer(
    help="The deliveries that came to no good end: list, show, retry, discard. kubectl get deadletters shows them too.",
    no_args_is_help=True,
)

Namespace = Annotated[str, typer.Option("--namespace", "-n", metavar="NAME", help="The namespace of the Trigger.")]
Format = Annotated[Output, typer.Option("--output", "-o", help="A table for eyes, or JSON for programs.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Which ones, by the name that list shows.")]
Trigger = Annotated[str, typer.Option("--trigger", metavar="NAME", help="All of this Trigger.")]


@app.command(name="list")
def list_(
    namespace: Namespace = "default",
    trigger: Trigger = "",
    output: Format = Output.TABLE,
    kubeconfig: Kubeconfig = None,
) -> None:
    """List them, the reason with each.

    For example:

      penstock deadletters list --trigger orders -o json
    """
    items = ask(kubeconfig, lambda kube: _found(kube, namespace, (), trigger))
    if output is Output.JSON:
        for item in items:
            document(item)
        return
    for item in items:
        spec = item["spec"]
        line(f"{item['metadata']['name']}  {spec['trigger']}  {spec['event']['type']}  {spec['reason']}")
    note(f"{len(items)} dead letter{'s' if len(items) != 1 else ''}")


@app.command()
def show(
    ids: Annotated[list[str], typer.Argument(metavar="ID...")],
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
) -> None:
    """Show all that is known of some: the event, and every attempt with its time and its answer."""
    for item in ask(kubeconfig, lambda kube: _found(kube, namespace, ids, "")):
        document(item)


@app.command()
def retry(
    ids: Ids = None, namespace: Namespace = "default", trigger: Trigger = "", kubeconfig: Kubeconfig = None
) -> None:
    """Deliver some again, from the first attempt on, by the Trigger as it is now.

    For example:

      penstock deadletters retry 0c1f... 9b2e...

      penstock deadletters retry --trigger orders
    """

    async def again(kube: KubeClient, name: str) -> None:
        await kube.post(_kind(), namespace, name, "retry", {})

    _each(kubeconfig, namespace, ids or (), trigger, again, "will be delivered again")


@app.command()
def discard(
    ids: Ids = None, namespace: Namespace = "default", trigger: Trigger = "", kubeconfig: Kubeconfig = None
) -> None:
    """Remove some for good."""

    async def remove(kube: KubeClient, name: str) -> None:
        await kube.delete(_kind(), namespace, name)

    _each(kubeconfig, namespace, ids or (), trigger, remove, "discarded")


def _each(
    kubeconfig: Path | None,
    namespace: str,
    ids: Sequence[str],
    trigger: str,
    act: Callable[[KubeClient, str], Awaitable[None]],
    done: str,
) -> None:
    if bool(ids) == bool(trigger):
        fail("name the dead letters by their ids, or all of a Trigger with --trigger", 2)

    async def run(kube: KubeClient) -> list[str]:
        names = [item["metadata"]["name"] for item in await _found(kube, namespace, ids, trigger)]
        for name in names:
            await act(kube, name)
        return names

    for name in ask(kubeconfig, run):
        line(f"{name} {done}")


async def _found(kube: KubeClient, namespace: str, ids: Sequence[str], trigger: str) -> list[JsonObject]:
    if ids:
        return [await kube.get(_kind(), namespace, name) for name in ids]
    listed = await kube.list(_kind(), namespace)
    return [item for item in listed.items if not trigger or item["spec"]["trigger"] == trigger]


def _kind() -> Any:
    from controller.objects.dead_letter import dead_letter_kind  # noqa: PLC0415 - only what a command needs is imported for it

    return dead_letter_kind()
