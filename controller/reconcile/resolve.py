"""From a Destination in a manifest to an address that can be called.

In a cluster this is Knative's resolver: a Service is called by its name, everything else tells its own address. Without
one there is no DNS for Services and nobody runs pods, so that a Service resolves to what it says of the world outside:

* `penstock.dev/local-url`, an annotation that any object may carry;
* `type: ExternalName`: that host, and the Service's port;
* no selector: an endpoint of its EndpointSlices.

A `uri` with a Service's host name (`http://name.namespace.svc/path`) resolves through the same Service.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from controller.objects.field_rules import uri_complaint
from controller.objects.kind import ObjectKey
from controller.objects.kinds import plural_of
from controller.objects.views import child, objects_in, reference_key, string
from controller.reconcile.local_service import Unresolvable, local_address, local_url
from eventing.delivery import Destination

if TYPE_CHECKING:
    from controller.objects.kind import JsonObject
    from controller.reconcile.world import World

CLUSTER_DOMAIN = "cluster.local"
SERVING = "serving.knative.dev"
_SERVICE_HOST = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+)\.svc(?:\.cluster\.local)?\.?")


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A destination leads nowhere now; `message` says why and, where we can tell, how to mend it."""

    message: str


def resolve(destination: JsonObject, namespace: str, world: World, *, cluster: bool) -> Destination | Unresolved:
    """The address of a Destination that stands in an object of `namespace`.

    A relative `uri` is joined to the address of `ref` as RFC 3986 has it; the destination's own `CACerts` and
    `audience` count before those of the object it names.
    """
    try:
        found = _resolve(destination, namespace, world, cluster=cluster)
    except Unresolvable as error:
        return Unresolved(str(error))
    return replace(
        found,
        ca_certs=string(destination, "CACerts") or found.ca_certs,
        audience=string(destination, "audience") or found.audience,
    )


def _resolve(destination: JsonObject, namespace: str, world: World, *, cluster: bool) -> Destination:
    ref, uri = destination.get("ref"), string(destination, "uri")
    if uri and (complaint := uri_complaint(uri)):
        raise Unresolvable(f'"{uri}": {complaint}')
    if not isinstance(ref, dict):
        if not uri:
            raise Unresolvable("destination missing Ref and URI, expected at least one")
        return _callable(_from_uri(uri, world, cluster=cluster))
    if urlsplit(uri).scheme:
        raise Unresolvable("absolute URI is not allowed when Ref or [apiVersion, kind, name] exists")
    scheme = "https" if string(destination, "CACerts") else "http"
    base = _from_ref(ref, reference_key(ref, namespace), world, scheme=scheme, cluster=cluster)
    return _callable(replace(base, url=urljoin(base.url, uri)))


def _callable(found: Destination) -> Destination:
    scheme = urlsplit(found.url).scheme
    if scheme not in ("http", "https"):
        raise Unresolvable(f'only http and https can be called, not {scheme}: "{found.url}"')
    return found


def _from_ref(ref: JsonObject, key: ObjectKey, world: World, *, scheme: str, cluster: bool) -> Destination:
    where = f"{key.namespace}/{key.name}"
    obj = world.get(key)
    if obj is None:
        plural = plural_of(key.group, key.kind)
        resource = f"{plural}.{key.group}" if key.group else plural
        raise Unresolvable(f'failed to get object {where}: {resource} "{key.name}" not found')
    if (key.group, key.kind) == ("", "Service"):
        if cluster:
            return Destination(f"{scheme}://{key.name}.{key.namespace}.svc.{CLUSTER_DOMAIN}")
        return Destination(local_address(obj, world, scheme=scheme))
    if not cluster and (url := local_url(obj)):
        return Destination(url)
    return _addressable(obj, string(ref, "address"), f"{key.kind} {where}")


def _addressable(obj: JsonObject, name: str, what: str) -> Destination:
    """The address that an Addressable tells in its status: the one of this name, else the first."""
    status = child(obj, "status")
    several = objects_in(status, "addresses")
    if name:
        address = next((one for one in several if one.get("name") == name), {})
        if not address:
            raise Unresolvable(f'address with name "{name}" not found for {what}')
    else:
        address = several[0] if several else child(status, "address")
    if not address:
        raise Unresolvable(f"address not set for {what}")
    url = string(address, "url")
    if not url:
        raise Unresolvable(f"URL missing in address of {what}")
    if uri_complaint(url) or not urlsplit(url).hostname:
        raise Unresolvable(f"hostname missing in address of {what}")
    return Destination(url, string(address, "CACerts"), string(address, "audience"))


def _from_uri(uri: str, world: World, *, cluster: bool) -> Destination:
    parts = urlsplit(uri)
    if not (parts.scheme and parts.hostname):
        raise Unresolvable(f'URI is not absolute (both scheme and host should be non-empty): "{uri}"')
    service = None if cluster else _SERVICE_HOST.fullmatch(parts.hostname)
    if service is None:
        return Destination(uri)
    return _from_service_host(parts, service[1], service[2], world)


def _from_service_host(parts: SplitResult, name: str, namespace: str, world: World) -> Destination:
    path = urlunsplit(("", "", parts.path, parts.query, ""))
    service = world.get(ObjectKey("", "Service", namespace, name))
    if service is not None:
        base = Destination(local_address(service, world, port=parts.port, scheme=parts.scheme))
    else:
        base = _from_knative_service(ObjectKey(SERVING, "Service", namespace, name), world)
    return replace(base, url=urljoin(base.url, path))


def _from_knative_service(key: ObjectKey, world: World) -> Destination:
    obj = world.get(key)
    if obj is None:
        raise Unresolvable(
            f"there is no Service {key.namespace}/{key.name}, and without a cluster its host name leads nowhere: "
            "create the Service with the annotation penstock.dev/local-url, or use an address that this machine can reach"
        )
    return Destination(url) if (url := local_url(obj)) else _addressable(obj, "", f"Service {key.namespace}/{key.name}")
