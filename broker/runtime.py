"""The one place that builds everything, in the order in which it is taken down again.

store ─► Kubernetes API, its own or joined ─► ingress (503 until it has routes) ─► control loop ─► routes ─► ready
SIGTERM: not ready ─► ingress closes ─► deliveries settle, for the grace time at most ─► loop, API, store close
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

import broker
import channels
import controller
import dispatcher
import eventing
from broker import __version__, logs
from broker.control_plane import config_to_join, joined, own
from broker.dataplane import DataPlane
from broker.dead_letters import DeadLetters
from broker.errors import HeldError, StartError, UsageError
from broker.http_server import bind, bound, serving
from broker.ingress.app import IngressApp
from broker.ingress.core import Ingress
from broker.ingress.protocol import IngressProtocol, Rendered
from broker.settings import Role
from channels.errors import StoreError, StoreLocked
from channels.registry import open_backend, shown
from controller.embedded.database import StoreFailed
from controller.kube.config import KubeConfig
from controller.kube.election import Election
from controller.loop import ControlLoop, ControlSettings
from controller.objects.annotations import lane_notes
from controller.objects.kinds import KINDS
from dispatcher.budget import ByteBudget
from dispatcher.dispatcher import Dispatcher
from dispatcher.sender import Sender, SenderSettings
from dispatcher.services import LaneReport, Services

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator

    from broker.control_plane import ControlPlane
    from broker.settings import Settings

log = structlog.get_logger()

GC_THRESHOLD = 20_000
"""Objects that may be made before the collector looks at the young ones (Python's default is 700)."""

MOST_FILES = 65_536
"""Open files that are asked for, as far as the system allows."""

SWITCH_INTERVAL = 0.0005
"""Seconds for which a thread may keep the interpreter lock while another waits (Python's default is 0.005): a thread that
decodes records of a backlog would hold up the event loop for so long, again and again."""

OURS = (broker, channels, controller, dispatcher, eventing)


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises UsageError and StartError."""
    logs.configure(settings.log_format, settings.log_level)
    _check_packages()
    _raise_file_limit()
    sys.setswitchinterval(SWITCH_INTERVAL)
    join = config_to_join(settings)
    if join is None and not settings.api.loopback:
        raise UsageError(
            f"--api {settings.api}: the Kubernetes API has no TLS and no token yet, so only 127.0.0.1 will do"
        )
    with contextlib.ExitStack() as stack:
        listen = stack.enter_context(bind(settings.listen, "listen"))
        # Port 0 asks for any: what was given is what is shown from here on.
        settings = replace(settings, listen=bound(settings.listen, listen))
        api: socket.socket | KubeConfig
        if join is None:
            api = stack.enter_context(bind(settings.api, "api"))
            settings = replace(settings, api=bound(settings.api, api))
        else:
            api = join
        try:
            asyncio.run(_serve(settings, listen, api))
        except (StoreError, StoreFailed, UsageError, BaseExceptionGroup) as error:
            raise _explained(error) from error


def _check_packages() -> None:
    """`channels` and `broker` are plain words: another package of that name on the path would be imported instead."""
    home = Path(__file__).parent.parent
    for package in OURS:
        if Path(str(package.__file__)).parent.parent != home:
            raise StartError(
                f"the package {package.__name__!r} was imported from {package.__file__}, not from {home}: "
                "install Penstock in a virtual environment of its own"
            )


def _raise_file_limit() -> None:
    """Every connection is an open file, and the limit that a shell gives (often 1,024) is low for a broker."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _explained(error: BaseException) -> BaseException:
    """What a person should read; an error that nobody foresaw as it is."""
    first = error
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if isinstance(first, StoreLocked):
        return HeldError(f"{first}; stop it, or choose another directory with --data")
    if isinstance(first, (StoreError, StoreFailed)):
        return StartError(str(first))
    return first if isinstance(first, UsageError) else error


async def _serve(settings: Settings, listen: socket.socket, api: socket.socket | KubeConfig) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        control: ControlPlane | None = None
        channel_settings = settings.channels
        if isinstance(api, KubeConfig):
            control = await stack.enter_async_context(joined(settings, api))
            dispatches = Role.DISPATCHER in control.roles
            channel_settings = replace(channel_settings, dispatches=dispatches, home=control.home)
        backend = await stack.enter_async_context(open_backend(settings.channel, settings.data, channel_settings))
        sender = await stack.enter_async_context(Sender(SenderSettings()))
        told = _Told()
        dispatcher = Dispatcher(backend, _services(settings, sender, told))
        if not isinstance(api, KubeConfig):
            control = await stack.enter_async_context(own(settings, DeadLetters(backend.state, dispatcher.retry), api))
        if control is None:
            raise RuntimeError("there is always an API to work with")
        ingress = Ingress("" if Role.INGRESS in control.roles else "this process takes no events, see its --role")
        plane = DataPlane(backend, ingress, dispatcher if Role.DISPATCHER in control.roles else None)
        kinds = {(kind.group, kind.kind): kind for kind in KINDS}
        told.loop = ControlLoop(
            control.kube,
            kinds,
            backend,
            plane.publish,
            ControlSettings(settings.base_url, cluster=control.cluster, when_full=settings.when_full),
            control.cache,
        )
        await stack.enter_async_context(_running(told.loop, dispatcher, control))
        async with serving(IngressApp(ingress), listen, partial(IngressProtocol, ingress, Rendered())):
            _announce(settings, control)
            # What was built lives as long as the process: the collector need not look at it again. And what an event is
            # made of has no cycles, so looking for them at every 700 objects is work for nothing.
            gc.freeze()
            gc.set_threshold(GC_THRESHOLD, 20, 20)
            await stop.wait()
            log.info("stopping: no more events are taken, deliveries in flight settle", grace=settings.dispatch.grace)
            ingress.drain()
    log.info("stopped")


class _Told:
    """Who hears what the dispatcher tells. The control loop needs the dispatcher first, so it comes later."""

    loop: ControlLoop | None = None


def _services(settings: Settings, sender: Sender, told: _Told) -> Services:
    """What the dispatcher is given."""

    def loaded(uid: str, partition: int, generation: int) -> None:
        if told.loop is not None:
            told.loop.loaded(uid, partition, generation)

    def lane(uid: str, report: LaneReport) -> None:
        if told.loop is not None:
            told.loop.note(uid, lane_notes(report.doing, report.behind, report.parked, report.skipped))

    def mark(uid: str, percent: int) -> None:
        if told.loop is not None:
            told.loop.mark(uid, percent)

    budget = ByteBudget(settings.dispatch.byte_budget)
    return Services(sender.post, settings.dispatch, budget, loaded, sender.begin, lane, mark)


@contextlib.asynccontextmanager
async def _running(loop: ControlLoop, dispatcher: Dispatcher, control: ControlPlane) -> AsyncIterator[None]:
    """The control loop and the dispatcher at work; leaving drains the dispatcher."""
    async with asyncio.TaskGroup() as group:
        looping = [group.create_task(loop.run())]
        if control.candidate is not None:
            looping.append(group.create_task(Election(control.kube, control.candidate, loop.lead).run()))
        elif Role.CONTROLLER in control.roles:
            loop.lead(True)
        dispatching = group.create_task(dispatcher.run())
        try:
            yield
        finally:
            dispatcher.stop()
            await dispatching
            for task in looping:
                task.cancel()


def _announce(settings: Settings, control: ControlPlane) -> None:
    log.info(
        "serving",
        version=__version__,
        events=f"{settings.base_url}/NAMESPACE/BROKER",
        data=str(settings.data),
        channel=shown(settings.channel),
    )
    if control.cache is not None:
        return
    print(f"export KUBECONFIG={settings.data / 'kubeconfig'}", flush=True)  # noqa: T201 - what a person needs next
    print(  # noqa: T201 - as above
        "kubectl get brokers,triggers    # then POST CloudEvents to the URL of a Broker", flush=True
    )
