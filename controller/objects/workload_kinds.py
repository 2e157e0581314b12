"""Kinds whose objects are stored but not run without a cluster: Deployment and the Knative Service.

Manifests that hold them beside Brokers and Triggers are applied as they are; a Trigger may refer to the Service.
"""

from __future__ import annotations

from controller.objects import openapi as api
from controller.objects.core_kinds import CORE_AGE, labels_cell
from controller.objects.eventing_kinds import AGE, READY, REASON
from controller.objects.kind import Column, JsonObject, Kind
from controller.objects.views import child, objects_in


def workload_kinds() -> tuple[Kind, ...]:
    """Deployment and the Knative Service."""
    return (_deployment(), _knative_service())


def _deployment() -> Kind:
    spec = api.record(
        {
            "replicas": api.integer("How many pods are to run."),
            "selector": api.anything("Labels of the pods.") | api.ATOMIC_MAP,
            "template": _pod_template(),
        },
        "What the Deployment is to be.",
        preserve=True,
    )
    return Kind(
        "apps",
        "v1",
        "Deployment",
        "deployments",
        "deployment",
        schema=api.whole(spec, api.anything(), "A Deployment is stored here and not run: there is no cluster."),
        custom=False,
        status=True,
        categories=("all",),
        short_names=("deploy",),
        columns=(
            Column("Ready", cell=_ready_replicas),
            Column("Up-to-date", "integer", cell=lambda obj: int(child(obj, "status").get("updatedReplicas") or 0)),
            Column("Available", "integer", cell=lambda obj: int(child(obj, "status").get("availableReplicas") or 0)),
            CORE_AGE,
            Column("Containers", priority=1, cell=lambda obj: _container_names(obj, "name")),
            Column("Images", priority=1, cell=lambda obj: _container_names(obj, "image")),
            Column("Selector", priority=1, cell=lambda obj: labels_cell(child(obj, "spec", "selector", "matchLabels"))),
        ),
        default=_default_deployment,
    )


def _pod_template() -> api.Schema:
    # Only what strategic merge patches need: the keys by which kubectl merges lists.
    named = api.record({"name": api.text()}, preserve=True)
    mount = api.record({"mountPath": api.text()}, preserve=True)
    port = api.record({"containerPort": api.integer(), "protocol": api.text() | {"default": "TCP"}}, preserve=True)
    container = api.record(
        {
            "name": api.text(),
            "image": api.text(),
            "env": api.array(named, keys=("name",)),
            "ports": api.array(port, keys=("containerPort", "protocol")),
            "volumeMounts": api.array(mount, keys=("mountPath",)),
        },
        preserve=True,
    )
    pod = api.record(
        {
            "containers": api.array(container, keys=("name",)),
            "initContainers": api.array(container, keys=("name",)),
            "volumes": api.array(named, keys=("name",)),
        },
        preserve=True,
    )
    return api.record({"metadata": api.anything(), "spec": pod}, "The pods.", preserve=True)


def _default_deployment(new: JsonObject, old: JsonObject | None) -> JsonObject:  # noqa: ARG001 - the hook's signature
    spec = new.setdefault("spec", {})
    if isinstance(spec, dict):
        spec.setdefault("replicas", 1)
        for container in _containers(new):
            for port in objects_in(container, "ports"):
                port.setdefault("protocol", "TCP")
    return new


def _ready_replicas(obj: JsonObject) -> str:
    return f"{child(obj, 'status').get('readyReplicas') or 0}/{child(obj, 'spec').get('replicas', 1)}"


def _container_names(obj: JsonObject, field: str) -> str:
    return ",".join(str(container.get(field, "")) for container in _containers(obj))


def _containers(obj: JsonObject) -> list[JsonObject]:
    return objects_in(child(obj, "spec", "template", "spec"), "containers")


def _knative_service() -> Kind:
    address = api.address("Where the Service answers.")
    return Kind(
        "serving.knative.dev",
        "v1",
        "Service",
        "services",
        "service",
        schema=api.whole(
            api.anything("What the Service is to be."),
            api.status({"url": api.text(), "address": address}, "What the Service is now.") | {api.PRESERVE: True},
            "A Knative Service is stored here and not run: there is no cluster.",
        ),
        status=True,
        categories=("all", "knative", "serving"),
        short_names=("kservice", "ksvc"),
        columns=(
            Column("URL", json_path=".status.url"),
            Column("LatestCreated", json_path=".status.latestCreatedRevisionName"),
            Column("LatestReady", json_path=".status.latestReadyRevisionName"),
            READY,
            REASON,
            AGE,
        ),
    )
