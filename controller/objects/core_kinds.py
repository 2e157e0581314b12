"""Kinds of the core group and of `discovery.k8s.io`: enough of each to be stored, printed and referred to."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

from controller.objects import openapi as api
from controller.objects.kind import Column, Denied, JsonObject, Kind
from controller.objects.views import child, name_of, objects_in, string

if TYPE_CHECKING:
    from collections.abc import Iterable

NONE = "<none>"
CORE_AGE = Column("Age", "date", ".metadata.creationTimestamp")


def core_kinds() -> tuple[Kind, ...]:
    """Namespace, Service, ConfigMap, Secret, Event and EndpointSlice."""
    return (_namespace(), _service(), _config_map(), _secret(), _event(), _endpoint_slice())


def _namespace() -> Kind:
    return Kind(
        "",
        "v1",
        "Namespace",
        "namespaces",
        "namespace",
        schema=api.whole(
            api.record({"finalizers": api.array(api.text())}),
            api.record({"phase": api.text("Active or Terminating.")}, preserve=True),
            "A Namespace keeps objects apart from those of others.",
        ),
        namespaced=False,
        custom=False,
        status=True,
        short_names=("ns",),
        columns=(Column("Status", json_path=".status.phase"), CORE_AGE),
        default=_default_namespace,
        field_selectors=("status.phase",),
    )


def _default_namespace(new: JsonObject, old: JsonObject | None) -> JsonObject:
    metadata = new.setdefault("metadata", {})
    metadata["labels"] = {**child(metadata, "labels"), "kubernetes.io/metadata.name": string(metadata, "name")}
    if old is None:
        new["status"] = {"phase": "Active"}
    return new


def _service() -> Kind:
    port = api.record(
        {
            "name": api.text(),
            "protocol": api.text() | {"default": "TCP"},
            "port": api.integer(),
            "targetPort": api.int_or_string(),
            "nodePort": api.integer(),
            "appProtocol": api.text(),
        },
        required=("port",),
    )
    spec = api.record(
        {
            "type": api.text("ClusterIP, NodePort, LoadBalancer or ExternalName."),
            "externalName": api.text("The host that an ExternalName Service stands for."),
            "selector": api.mapping(api.text(), "Labels of the pods behind the Service.") | api.ATOMIC_MAP,
            "ports": api.array(port, "The ports of the Service.", keys=("port", "protocol")),
            "clusterIP": api.text(),
            "clusterIPs": api.array(api.text()),
        },
        "What the Service is to be.",
        preserve=True,
    )
    return Kind(
        "",
        "v1",
        "Service",
        "services",
        "service",
        schema=api.whole(spec, api.anything(), "A Service is an address of what answers behind it."),
        custom=False,
        status=True,
        categories=("all",),
        short_names=("svc",),
        columns=(
            Column("Type", json_path=".spec.type"),
            Column("Cluster-IP", cell=lambda obj: string(child(obj, "spec"), "clusterIP") or NONE),
            Column("External-IP", cell=lambda obj: string(child(obj, "spec"), "externalName") or NONE),
            Column("Port(s)", cell=_service_ports),
            CORE_AGE,
            Column("Selector", priority=1, cell=lambda obj: labels_cell(child(obj, "spec", "selector"))),
        ),
        default=_default_service,
        validate=_validate_service,
        field_selectors=("spec.type", "spec.clusterIP"),
    )


def _default_service(new: JsonObject, old: JsonObject | None) -> JsonObject:  # noqa: ARG001 - the signature of the hook
    spec = new.setdefault("spec", {})
    if isinstance(spec, dict):
        spec.setdefault("type", "ClusterIP")
        for port in objects_in(spec, "ports"):
            port.setdefault("protocol", "TCP")
    return new


def _validate_service(new: JsonObject, old: JsonObject | None) -> None:  # noqa: ARG001 - the signature of the hook
    spec = child(new, "spec")
    if spec.get("type") == "ExternalName" and not spec.get("externalName"):
        name = name_of(new).name
        raise Denied(f'Service "{name}" is invalid: spec.externalName: Required value', 422, "Invalid")


def _service_ports(obj: JsonObject) -> str:
    ports = objects_in(child(obj, "spec"), "ports")
    return ",".join(f"{port.get('port')}/{port.get('protocol', 'TCP')}" for port in ports) or NONE


def _config_map() -> Kind:
    return Kind(
        "",
        "v1",
        "ConfigMap",
        "configmaps",
        "configmap",
        schema=api.record(
            {"data": api.mapping(api.text()), "binaryData": api.mapping(api.text()), "immutable": api.boolean()},
            "A ConfigMap holds configuration.",
        ),
        custom=False,
        short_names=("cm",),
        columns=(Column("Data", "integer", cell=_data_count), CORE_AGE),
    )


def _secret() -> Kind:
    return Kind(
        "",
        "v1",
        "Secret",
        "secrets",
        "secret",
        schema=api.record(
            {
                "type": api.text(),
                "data": api.mapping(api.text(), "Values in base64."),
                "stringData": api.mapping(api.text(), "Values as text; they are moved to data."),
                "immutable": api.boolean(),
            },
            "A Secret holds passwords, tokens and keys.",
        ),
        custom=False,
        columns=(Column("Type", json_path=".type"), Column("Data", "integer", cell=_data_count), CORE_AGE),
        default=_default_secret,
        field_selectors=("type",),
    )


def _default_secret(new: JsonObject, old: JsonObject | None) -> JsonObject:  # noqa: ARG001 - the signature of the hook
    new.setdefault("type", "Opaque")
    texts = child(new, "stringData")
    new.pop("stringData", None)
    if texts:
        encoded = {name: b64encode(str(text).encode()).decode("ascii") for name, text in texts.items()}
        new["data"] = child(new, "data") | encoded
    return new


def _data_count(obj: JsonObject) -> int:
    return len(child(obj, "data")) + len(child(obj, "binaryData"))


def _event() -> Kind:
    involved = "involvedObject"
    return Kind(
        "",
        "v1",
        "Event",
        "events",
        "event",
        schema=api.record(
            {
                involved: api.reference("The object that the Event is about.") | {api.PRESERVE: True},
                "reason": api.text(),
                "message": api.text(),
                "type": api.text("Normal or Warning."),
                "count": api.integer(),
                "firstTimestamp": api.text(),
                "lastTimestamp": api.text(),
            },
            "An Event tells what happened to an object.",
            preserve=True,
        ),
        custom=False,
        short_names=("ev",),
        columns=(
            Column("Last Seen", "date", ".lastTimestamp"),
            Column("Type", json_path=".type"),
            Column("Reason", json_path=".reason"),
            Column("Object", cell=_event_object),
            Column("Message", json_path=".message"),
            Column("Count", "integer", ".count", priority=1),
        ),
        field_selectors=(
            *(f"{involved}.{name}" for name in ("name", "namespace", "kind", "uid", "apiVersion", "resourceVersion")),
            "involvedObject.fieldPath",
            "reason",
            "type",
        ),
    )


def _event_object(obj: JsonObject) -> str:
    involved = child(obj, "involvedObject")
    return f"{string(involved, 'kind').lower()}/{string(involved, 'name')}"


def _endpoint_slice() -> Kind:
    endpoint = api.record(
        {
            "addresses": api.array(api.text(), "Where the endpoint answers; any of them."),
            "conditions": api.record(
                {"ready": api.boolean(), "serving": api.boolean(), "terminating": api.boolean()},
            ),
        },
        preserve=True,
        required=("addresses",),
    )
    port = api.record(
        {"name": api.text(), "protocol": api.text(), "port": api.integer(), "appProtocol": api.text()},
    )
    return Kind(
        "discovery.k8s.io",
        "v1",
        "EndpointSlice",
        "endpointslices",
        "endpointslice",
        schema=api.record(
            {
                "addressType": api.text("IPv4, IPv6 or FQDN."),
                "endpoints": api.array(endpoint),
                "ports": api.array(port),
            },
            "An EndpointSlice says where the endpoints of a Service are.",
            required=("addressType", "endpoints"),
        ),
        custom=False,
        columns=(
            Column("AddressType", json_path=".addressType"),
            Column("Ports", cell=lambda obj: _joined(str(port.get("port")) for port in objects_in(obj, "ports"))),
            Column("Endpoints", cell=lambda obj: _joined(_addresses(obj))),
            CORE_AGE,
        ),
    )


def _addresses(obj: JsonObject) -> list[str]:
    return [str(address) for endpoint in objects_in(obj, "endpoints") for address in endpoint.get("addresses") or ()]


def _joined(texts: Iterable[str]) -> str:
    return ",".join(texts) or NONE


def labels_cell(labels: JsonObject) -> str:
    """Labels as kubectl prints them: `a=b,c=d`."""
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items())) or NONE
