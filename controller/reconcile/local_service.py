"""Where a Service answers when there is no cluster: what it says of the world outside."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from controller.objects.annotations import LOCAL_URL
from controller.objects.field_rules import uri_complaint
from controller.objects.views import annotation, child, name_of, objects_in, string

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.objects.kind import JsonObject
    from controller.reconcile.world import World


class Unresolvable(Exception):
    """A destination leads nowhere; the message says why and how to mend it."""


def local_address(service: JsonObject, world: World, *, port: int | None = None, scheme: str = "http") -> str:
    """The base URL of a core Service on this machine. `port` is the Service's port that was asked for, if any.

    Raises Unresolvable.
    """
    if url := local_url(service):
        return url
    spec = child(service, "spec")
    wanted = _port(spec, port)
    if spec.get("type") == "ExternalName":
        return _base(scheme, string(spec, "externalName"), _outside_port(wanted) or port)
    if child(spec, "selector"):
        raise Unresolvable(
            f"Service {name_of(service)} selects pods, and without a cluster there are none: "
            f"annotate it with {LOCAL_URL}: http://127.0.0.1:PORT"
        )
    for host, number in _endpoints(service, world, string(wanted, "name")):
        return _base(scheme, host, number or _outside_port(wanted) or port)
    raise Unresolvable(
        f"Service {name_of(service)} has no selector and no EndpointSlice with a ready endpoint: "
        f"add one, or annotate the Service with {LOCAL_URL}: http://127.0.0.1:PORT"
    )


def local_url(obj: JsonObject) -> str:
    """The value of `penstock.dev/local-url`, "" where it is not set; raises Unresolvable where it is no http(s) URL."""
    url = annotation(obj, LOCAL_URL)
    if url and (uri_complaint(url) or urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        kind = obj.get("kind")
        raise Unresolvable(
            f"{kind} {name_of(obj)}: annotation {LOCAL_URL} is not a URL such as http://127.0.0.1:9000: {url!r}"
        )
    return url


def _port(spec: JsonObject, number: int | None) -> JsonObject:
    """The port of a Service with this number; without a number port 80, else its first one; {} where there is none."""
    ports = objects_in(spec, "ports")
    for port in ports:
        if port.get("port") == (number or 80):
            return port
    return ports[0] if ports and number is None else {}


def _outside_port(port: JsonObject) -> int | None:
    """The number behind a Service's port: `targetPort`, unless that is a name."""
    for number in (port.get("targetPort"), port.get("port")):
        if isinstance(number, int):
            return number
    return None


def _endpoints(service: JsonObject, world: World, port_name: str) -> Iterator[tuple[str, int | None]]:
    """Host and port of every ready endpoint of a Service."""
    for piece in world.endpoint_slices(*name_of(service)):
        number = _slice_port(piece, port_name)
        for endpoint in objects_in(piece, "endpoints"):
            if child(endpoint, "conditions").get("ready") is not False:
                for address in endpoint.get("addresses") or ():
                    yield str(address), number


def _slice_port(piece: JsonObject, name: str) -> int | None:
    ports = objects_in(piece, "ports")
    named = [port for port in ports if (port.get("name") or "") == name] or ports
    number = named[0].get("port") if named else None
    return number if isinstance(number, int) else None


def _base(scheme: str, host: str, port: int | None) -> str:
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{port}" if port else f"{scheme}://{host}"
