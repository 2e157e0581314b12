"""The command `penstock`."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import Annotated

import typer

from broker import __version__
from broker.commands import deadletters
from broker.commands.backup import backup
from broker.commands.bench import bench
from broker.commands.explain import explain
from broker.commands.send import send
from broker.commands.sink import sink
from broker.errors import HeldError, StartError, UsageError

USAGE = 2
HELD = 3
"""Exit codes: 1 is a failure, 2 wrong usage, 3 a data directory that another process holds."""

app = typer.Typer(
    name="penstock",
    help="A Knative Eventing Broker and Trigger dispatcher: durable, on a laptop or in a cluster.",
    epilog="Begin with: penstock serve -f samples/helloworld",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def serve(  # noqa: PLR0913, PLR0917 - one parameter for each flag
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where events are taken.  [default: 127.0.0.1:8080]")
    ] = None,
    api: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where kubectl is served.  [default: 127.0.0.1:8001]")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="What must survive lies here.  [default: the user's data directory]"),
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The channel of Brokers that name no config.  [default: sqlite:]"),
    ] = None,
    manifests: Annotated[
        list[Path] | None,
        typer.Option("-f", "--filename", metavar="FILE|DIR", help="Manifests to apply at start; may be repeated."),
    ] = None,
    advertise: Annotated[
        str | None,
        typer.Option(metavar="URL", help="What a Broker's address begins with.  [default: the listen address]"),
    ] = None,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Join this API server: a cluster's, or that of another `penstock serve`.  [default: the pod's, else its own]",
        ),
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE", help="ingress, dispatcher or controller; may be repeated.  [default: all that fit]"
        ),
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(metavar="text|json", help="How logs are written.  [default: text]")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error.  [default: info]")
    ] = None,
    grace: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="How long deliveries in flight may take on SIGTERM.  [default: 25]"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A YAML file with these settings and the others of docs/configuration.md."),
    ] = None,
) -> None:
    """Run Penstock: take events, deliver them, and serve the Kubernetes API to kubectl.

    Flags, PENSTOCK_* variables (PENSTOCK_LISTEN=...) and the file mean the same thing; flags go first, the file last.

    Examples:
      penstock serve -f samples/helloworld

      penstock serve --data ./data --listen 0.0.0.0:8080 --advertise http://broker.example.com

      penstock serve --kubeconfig ~/.kube/config --channel nats://127.0.0.1:4222

    """
    from broker.settings import load  # noqa: PLC0415 - only what a command needs is imported for it

    flags = {
        "listen": listen,
        "api": api,
        "data": data,
        "channel": channel,
        "manifests": manifests,
        "advertise": advertise,
        "kubeconfig": kubeconfig,
        "role": role,
        "log_format": log_format,
        "log_level": log_level,
        "grace": grace,
    }
    try:
        settings = load(flags, config)
    except UsageError as error:
        _fail(str(error), USAGE)
    from broker.runtime import run  # noqa: PLC0415 - as above

    try:
        run(settings)
    except UsageError as error:
        _fail(str(error), USAGE)
    except HeldError as error:
        _fail(str(error), HELD)
    except StartError as error:
        _fail(str(error), 1)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"penstock {__version__}")


app.add_typer(deadletters.app, name="deadletters")
app.command()(backup)
app.command()(bench)
app.command()(explain)
app.command()(send)
app.command()(sink)


def _fail(message: str, code: int) -> None:
    typer.echo(f"penstock: {message}", err=True)
    raise typer.Exit(code)


def main() -> None:
    """The entry point of the console script."""
    sys.exit(app())
