"""The Service by whose name a Broker is reached in a cluster: `http://NAME-broker.NAMESPACE.svc.cluster.local`.

It is another name of the ingress, which finds the Broker by the Host of the request. It belongs to the Broker, so that the
cluster removes it with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from controller.objects.kind import ObjectKey
from controller.objects.views import EVENTING, name_of, uid_of

if TYPE_CHECKING:
    from controller.objects.kind import JsonObject

SUFFIX: Final = "-broker"
LONGEST_LABEL: Final = 63
"""Characters that the name of a Service may have: it is a DNS label."""


def service_key(broker: JsonObject, base_url: str) -> ObjectKey | None:
    """The Service of a Broker whose ingress is at `base_url`; None where none can be: an alias has no port of its own, so the
    ingress must be a Service at port 80.
    """
    parts = urlsplit(base_url)
    namespace, name = name_of(broker)
    in_cluster = ".svc" in (parts.hostname or "") and parts.port in (None, 80) and parts.scheme == "http"
    if not in_cluster or len(name) + len(SUFFIX) > LONGEST_LABEL:
        return None
    return ObjectKey("", "Service", namespace, name + SUFFIX)


def broker_service(broker: JsonObject, key: ObjectKey, base_url: str) -> JsonObject:
    """The Service `key` of a Broker."""
    name = name_of(broker).name
    owner = {"apiVersion": f"{EVENTING}/v1", "kind": "Broker", "name": name, "uid": uid_of(broker), "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "labels": {"eventing.knative.dev/broker": name, "app.kubernetes.io/part-of": "penstock"},
            "ownerReferences": [owner],
        },
        "spec": {"type": "ExternalName", "externalName": urlsplit(base_url).hostname},
    }
