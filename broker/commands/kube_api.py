"""How commands ask the Kubernetes API, whether it is served by Penstock or by a cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from broker.commands.console import fail

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from controller.kube.client import KubeClient

T = TypeVar("T")

Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        envvar="KUBECONFIG",
        metavar="FILE",
        help="Which Penstock to ask.  [default: the one of the user's data directory]",
    ),
]


def ask(kubeconfig: Path | None, call: Callable[[KubeClient], Awaitable[T]]) -> T:
    """What `call` returns, run against the API of the kubeconfig; an error of the API ends the command with one line."""
    from broker.settings import default_data  # noqa: PLC0415 - only what a command needs is imported for it
    from controller.kube.client import KubeClient  # noqa: PLC0415 - as above
    from controller.kube.config import load_kubeconfig  # noqa: PLC0415 - as above
    from controller.kube.errors import KubeError  # noqa: PLC0415 - as above

    async def run() -> T:
        async with KubeClient(load_kubeconfig(kubeconfig or default_data() / "kubeconfig")) as kube:
            return await call(kube)

    try:
        return asyncio.run(run())
    except KubeError as error:
        fail(str(error))
