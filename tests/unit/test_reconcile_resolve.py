"""From a Destination to an address, in a cluster and without one."""

from __future__ import annotations

from typing import Any

import pytest

from controller.objects.kind import ObjectKey
from controller.reconcile.resolve import Unresolved, resolve
from controller.reconcile.world import Objects, Seen, dependency_key, slices_key
from eventing.delivery import Destination

LOCAL = {"penstock.dev/local-url": "http://127.0.0.1:9000"}
BROKER = "eventing.knative.dev/v1"
SERVING = "serving.knative.dev/v1"


def an_object(
    api_version: str, kind: str, name: str = "s", annotations: dict[str, str] | None = None, **parts: Any
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": "ns"}
    if annotations:
        metadata["annotations"] = annotations
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **parts}


def a_service(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return an_object("v1", "Service", annotations=annotations, spec=spec)


def a_slice(*addresses: str, ready: bool | None = True, **parts: Any) -> dict[str, Any]:
    piece = an_object("discovery.k8s.io/v1", "EndpointSlice", name=f"s-{addresses[0]}")
    piece["metadata"]["labels"] = {"kubernetes.io/service-name": "s"}
    conditions = {} if ready is None else {"ready": ready}
    piece |= {"endpoints": [{"addresses": list(addresses), "conditions": conditions}], "ports": [{"port": 8080}]}
    return piece | parts


def a_ref(api_version: str = "v1", kind: str = "Service", **more: Any) -> dict[str, Any]:
    return {"ref": {"apiVersion": api_version, "kind": kind, "name": "s", **more}}


def external(port: dict[str, Any] | None = None) -> dict[str, Any]:
    return a_service(type="ExternalName", externalName="localhost", ports=[port] if port else [])


def found(destination: dict[str, Any], *objects: dict[str, Any], cluster: bool = False) -> str:
    """The URL, or the message of what is unresolved in angle brackets."""
    result = resolve(destination, "ns", Objects(objects), cluster=cluster)
    return f"<{result.message}>" if isinstance(result, Unresolved) else result.url


@pytest.mark.parametrize(
    ("destination", "objects", "expected"),
    [
        pytest.param({"uri": "http://h:1/p"}, [], "http://h:1/p", id="uri"),
        pytest.param(a_ref(), [external({"port": 9000})], "http://localhost:9000", id="external-name"),
        pytest.param(
            a_ref(), [external({"port": 80, "targetPort": 9000})], "http://localhost:9000", id="external-target-port"
        ),
        pytest.param(a_ref(), [external()], "http://localhost", id="external-without-port"),
        pytest.param(a_ref(), [a_service(), a_slice("10.0.0.1")], "http://10.0.0.1:8080", id="slice"),
        pytest.param(a_ref(), [a_service(), a_slice("::1", ready=None)], "http://[::1]:8080", id="slice-ipv6"),
        pytest.param(
            a_ref(),
            [a_service(), a_slice("10.0.0.1", ready=False), a_slice("10.0.0.2")],
            "http://10.0.0.2:8080",
            id="slice-not-ready",
        ),
        pytest.param(
            a_ref(),
            [
                a_service(ports=[{"name": "web", "port": 80}]),
                a_slice("10.0.0.1", ports=[{"name": "metrics", "port": 1}, {"name": "web", "port": 2}]),
            ],
            "http://10.0.0.1:2",
            id="slice-port-by-name",
        ),
        pytest.param(a_ref(), [a_service(LOCAL, selector={"a": "b"})], "http://127.0.0.1:9000", id="annotation"),
        pytest.param(
            {**a_ref(), "uri": "/p?q=1"}, [a_service(LOCAL)], "http://127.0.0.1:9000/p?q=1", id="ref-and-path"
        ),
        pytest.param(
            a_ref(SERVING),
            [an_object(SERVING, "Service", status={"address": {"url": "http://h/x"}})],
            "http://h/x",
            id="ksvc",
        ),
        pytest.param(
            a_ref(SERVING),
            [an_object(SERVING, "Service", annotations=LOCAL)],
            "http://127.0.0.1:9000",
            id="ksvc-annotation",
        ),
        pytest.param(
            {**a_ref(BROKER, "Broker"), "uri": "more"},
            [an_object(BROKER, "Broker", status={"address": {"url": "http://h/ns/s"}})],
            "http://h/ns/more",
            id="broker-and-relative-uri",
        ),
        pytest.param(
            {"uri": "http://s.ns.svc.cluster.local/p?q"}, [a_service(LOCAL)], "http://127.0.0.1:9000/p?q", id="host"
        ),
        pytest.param(
            {"uri": "http://s.ns.svc:81/p"},
            [external({"port": 81, "targetPort": 5})],
            "http://localhost:5/p",
            id="host-and-port",
        ),
        pytest.param(
            {"uri": "http://s.ns.svc:82"}, [external({"port": 81})], "http://localhost:82", id="host-and-other-port"
        ),
        pytest.param(
            {"uri": "http://s.ns.svc.cluster.local"},
            [an_object(SERVING, "Service", annotations=LOCAL)],
            "http://127.0.0.1:9000",
            id="host-of-ksvc",
        ),
    ],
)
def test_without_a_cluster(destination: dict[str, Any], objects: list[dict[str, Any]], expected: str) -> None:
    """A Service resolves to what it says of the world outside, everything else to the address it tells."""
    assert found(destination, *objects) == expected


@pytest.mark.parametrize(
    ("destination", "objects", "expected"),
    [
        pytest.param({}, [], "<destination missing Ref and URI, expected at least one>", id="nothing"),
        pytest.param(a_ref(), [], '<failed to get object ns/s: services "s" not found>', id="no-service"),
        pytest.param(
            a_ref(SERVING, namespace="x"),
            [],
            '<failed to get object x/s: services.serving.knative.dev "s" not found>',
            id="no-ksvc-elsewhere",
        ),
        pytest.param(
            a_ref(),
            [a_service(selector={"app": "s"})],
            "<Service ns/s selects pods, and without a cluster there are none: "
            "annotate it with penstock.dev/local-url: http://127.0.0.1:PORT>",
            id="pods",
        ),
        pytest.param(
            a_ref(),
            [a_service()],
            "<Service ns/s has no selector and no EndpointSlice with a ready endpoint: "
            "add one, or annotate the Service with penstock.dev/local-url: http://127.0.0.1:PORT>",
            id="no-endpoints",
        ),
        pytest.param(
            a_ref(),
            [a_service({"penstock.dev/local-url": "localhost:9000"})],
            "<Service ns/s: annotation penstock.dev/local-url is not a URL such as http://127.0.0.1:9000: 'localhost:9000'>",
            id="bad-annotation",
        ),
        pytest.param(
            a_ref(BROKER, "Broker"),
            [an_object(BROKER, "Broker")],
            "<address not set for Broker ns/s>",
            id="no-address",
        ),
        pytest.param(
            a_ref(BROKER, "Broker"),
            [an_object(BROKER, "Broker", status={"address": {"name": "http"}})],
            "<URL missing in address of Broker ns/s>",
            id="no-url",
        ),
        pytest.param(
            a_ref(BROKER, "Broker"),
            [an_object(BROKER, "Broker", status={"address": {"url": "/path"}})],
            "<hostname missing in address of Broker ns/s>",
            id="no-host",
        ),
        pytest.param(
            a_ref(BROKER, "Broker", address="x"),
            [an_object(BROKER, "Broker", status={"address": {"url": "http://h"}})],
            '<address with name "x" not found for Broker ns/s>',
            id="no-such-address",
        ),
        pytest.param(
            {**a_ref(), "uri": "http://h"},
            [a_service(LOCAL)],
            "<absolute URI is not allowed when Ref or [apiVersion, kind, name] exists>",
            id="absolute",
        ),
        pytest.param(
            {"uri": "/p"},
            [],
            '<URI is not absolute (both scheme and host should be non-empty): "/p">',
            id="relative",
        ),
        pytest.param({"uri": "ftp://h"}, [], '<only http and https can be called, not ftp: "ftp://h">', id="scheme"),
        pytest.param(
            {"uri": "http://s.ns.svc/p"},
            [],
            "<there is no Service ns/s, and without a cluster its host name leads nowhere: create the Service with the "
            "annotation penstock.dev/local-url, or use an address that this machine can reach>",
            id="host-of-nothing",
        ),
    ],
)
def test_unresolved(destination: dict[str, Any], objects: list[dict[str, Any]], expected: str) -> None:
    """What leads nowhere says why: in Knative's words where it has some, with the way out where we know one."""
    assert found(destination, *objects) == expected


@pytest.mark.parametrize(
    ("destination", "objects", "expected"),
    [
        pytest.param(a_ref(), [external({"port": 9000})], "http://s.ns.svc.cluster.local", id="service"),
        pytest.param(
            {**a_ref(), "CACerts": "pem", "uri": "p"}, [a_service()], "https://s.ns.svc.cluster.local/p", id="tls"
        ),
        pytest.param({"uri": "http://s.ns.svc/p"}, [], "http://s.ns.svc/p", id="host"),
        pytest.param(
            a_ref(SERVING),
            [an_object(SERVING, "Service", annotations=LOCAL, status={"address": {"url": "http://h"}})],
            "http://h",
            id="annotation-is-ignored",
        ),
        pytest.param(a_ref(), [], '<failed to get object ns/s: services "s" not found>', id="no-service"),
    ],
)
def test_in_a_cluster(destination: dict[str, Any], objects: list[dict[str, Any]], expected: str) -> None:
    """In a cluster a Service is called by its name, as Knative does it."""
    assert found(destination, *objects, cluster=True) == expected


def test_certificates_and_audience() -> None:
    """The first of several addresses counts, and the destination's own certificates and audience before its."""
    addresses = [{"name": "https", "url": "https://h", "CACerts": "theirs", "audience": "a"}, {"url": "http://h"}]
    world = Objects([an_object(BROKER, "Broker", status={"addresses": addresses, "address": {"url": "http://x"}})])
    ref = a_ref(BROKER, "Broker")
    assert resolve(ref, "ns", world, cluster=False) == Destination("https://h", "theirs", "a")
    own = {**ref, "CACerts": "ours", "audience": "b"}
    assert resolve(own, "ns", world, cluster=False) == Destination("https://h", "ours", "b")


def test_what_was_asked_for_is_seen() -> None:
    """Missing objects are dependencies too, and an EndpointSlice counts for its whole Service."""
    seen = Seen(Objects([a_service()]))
    resolve(a_ref(), "ns", seen, cluster=False)
    resolve(a_ref(SERVING), "ns", seen, cluster=False)
    assert seen.keys == {
        ObjectKey("", "Service", "ns", "s"),
        slices_key("ns", "s"),
        ObjectKey("serving.knative.dev", "Service", "ns", "s"),
    }
    assert dependency_key(a_slice("10.0.0.1")) in seen.keys
