"""The Service by whose name a Broker is reached, and when there can be none."""

from __future__ import annotations

import pytest

from controller.reconcile.broker_service import broker_service, service_key

INGRESS = "http://penstock-ingress.penstock-system.svc.cluster.local"


def a_broker(name: str = "default") -> dict[str, object]:
    return {"kind": "Broker", "metadata": {"name": name, "namespace": "shop", "uid": "u-1"}}


def test_it_is_another_name_of_the_ingress_and_goes_with_the_broker() -> None:
    key = service_key(a_broker(), INGRESS)
    assert key is not None
    service = broker_service(a_broker(), key, INGRESS)
    assert (service["metadata"]["namespace"], service["metadata"]["name"]) == ("shop", "default-broker")
    assert service["spec"] == {
        "type": "ExternalName",
        "externalName": "penstock-ingress.penstock-system.svc.cluster.local",
    }
    (owner,) = service["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Broker", "default", "u-1")


@pytest.mark.parametrize(
    ("name", "url"),
    [
        pytest.param("default", "http://127.0.0.1:8080", id="outside"),
        pytest.param("default", "http://penstock.example.com", id="no Service"),
        pytest.param("default", f"{INGRESS}:8080", id="another port"),
        pytest.param("default", INGRESS.replace("http:", "https:"), id="TLS"),
        pytest.param("b" * 60, INGRESS, id="too long"),
    ],
)
def test_where_none_can_be_there_is_none(name: str, url: str) -> None:
    assert service_key(a_broker(name), url) is None
