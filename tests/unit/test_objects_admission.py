"""What admission fills in and refuses, in the words of Knative's webhooks."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from controller.objects.defaults import default_broker, default_trigger
from controller.objects.kind import Denied, Kind
from controller.objects.kinds import KINDS
from controller.objects.validate_broker import validate_broker
from controller.objects.validate_trigger import validate_trigger

PREFIX = 'admission webhook "validation.webhook.eventing.knative.dev" denied the request: validation failed: '
BY_RESOURCE = {kind.resource: kind for kind in KINDS}


def a_broker(spec: Any = None, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Broker",
        "metadata": {"name": "b", "namespace": "ns", **metadata},
        "spec": {} if spec is None else spec,
    }


def a_trigger(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "t", "namespace": "ns"}
    if annotations is not None:
        metadata["annotations"] = annotations
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": metadata,
        "spec": {"broker": "default", "subscriber": {"uri": "http://localhost:1"}} | spec,
    }


def of_class(name: str) -> dict[str, str]:
    return {"eventing.knative.dev/broker.class": name}


def refusal(kind: Kind, new: dict[str, Any], old: dict[str, Any] | None = None) -> str:
    """The text of a refusal without its constant beginning, or "" where the object is admitted."""
    refused: Denied | None = None
    try:
        kind.validate(kind.default(copy.deepcopy(new), old), old)
    except Denied as denied:
        refused = denied
    if refused is None:
        return ""
    assert (refused.code, refused.reason) == (400, "BadRequest")
    assert refused.message.startswith(PREFIX)
    return refused.message.removeprefix(PREFIX)


# --- defaults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [(None, "Penstock"), ({}, "Penstock"), (of_class("Kafka"), "Kafka"), (of_class(""), "")],
    ids=["none", "empty", "foreign", "set-but-empty"],
)
def test_broker_class(annotations: dict[str, str] | None, expected: str) -> None:
    """A Broker without a class is ours; one that has a class keeps it, an empty one too, for validation to refuse."""
    broker = a_broker() if annotations is None else a_broker(annotations=annotations)
    assert default_broker(broker, None)["metadata"]["annotations"] == of_class(expected)


def test_broker_references_get_the_namespace() -> None:
    """Config and dead letter sink are looked for beside the Broker."""
    spec = {"config": {"name": "c"}, "delivery": {"deadLetterSink": {"ref": {"name": "s", "namespace": "else"}}}}
    defaulted = default_broker(a_broker(spec), None)["spec"]
    assert defaulted["config"] == {"name": "c", "namespace": "ns"}
    assert defaulted["delivery"]["deadLetterSink"]["ref"]["namespace"] == "else"


def test_trigger_defaults() -> None:
    """A Trigger gets the empty filter, the namespaces of its references and the label of its Broker."""
    sink = {"deadLetterSink": {"ref": {"name": "d"}}}
    trigger = default_trigger(a_trigger(subscriber={"ref": {"name": "s"}}, delivery=sink), None)
    assert trigger["metadata"]["labels"] == {"eventing.knative.dev/broker": "default"}
    assert trigger["spec"]["filter"] == {}
    assert trigger["spec"]["subscriber"]["ref"]["namespace"] == "ns"
    assert trigger["spec"]["delivery"]["deadLetterSink"]["ref"]["namespace"] == "ns"


def test_the_name_of_the_broker_has_no_default() -> None:
    """A Trigger that names no Broker is refused, and gets no label."""
    trigger = a_trigger(broker="")
    assert "labels" not in default_trigger(copy.deepcopy(trigger), None)["metadata"]
    assert refusal(BY_RESOURCE["triggers.eventing.knative.dev"], trigger) == "missing field(s): spec.broker"


@pytest.mark.parametrize(
    "spec", [None, "text", 5, {"delivery": 1}, {"subscriber": [], "delivery": {"deadLetterSink": 1}}]
)
def test_defaults_survive_any_manifest(spec: object) -> None:
    """Admission fills in before the schema is checked, so that anything may stand anywhere."""
    for resource in ("brokers.eventing.knative.dev", "triggers.eventing.knative.dev", "services", "deployments.apps"):
        BY_RESOURCE[resource].default({"metadata": {"name": "x", "annotations": None}, "spec": spec}, None)


def test_core_defaults() -> None:
    """A Service's ports have a protocol, a Secret's text becomes data, a Namespace is Active and labelled."""
    service = BY_RESOURCE["services"].default({"spec": {"ports": [{"port": 80}]}}, None)
    assert service["spec"] == {"type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP"}]}
    secret = BY_RESOURCE["secrets"].default({"data": {"a": "eA=="}, "stringData": {"b": "y"}}, None)
    assert secret == {"type": "Opaque", "data": {"a": "eA==", "b": "eQ=="}}
    namespace = BY_RESOURCE["namespaces"].default({"metadata": {"name": "n"}}, None)
    assert namespace["metadata"]["labels"] == {"kubernetes.io/metadata.name": "n"}
    assert namespace["status"] == {"phase": "Active"}


def test_external_name_is_required() -> None:
    """An ExternalName Service without a name is refused as Kubernetes does it."""
    with pytest.raises(Denied, match=r'Service "s" is invalid: spec.externalName: Required value') as raised:
        BY_RESOURCE["services"].validate({"metadata": {"name": "s"}, "spec": {"type": "ExternalName"}}, None)
    assert raised.value.code == 422


# --- Broker ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broker", "expected"),
    [
        pytest.param(a_broker(), "", id="empty"),
        pytest.param(
            a_broker(annotations=of_class("")), "missing field(s): eventing.knative.dev/broker.class", id="class"
        ),
        pytest.param(
            a_broker({"config": {"namespace": "x"}}),
            "missing field(s): spec.config.apiVersion, spec.config.kind, spec.config.name",
            id="config",
        ),
        pytest.param(
            a_broker({"delivery": {"deadLetterSink": {}}}),
            "expected at least one, got none: spec.delivery.deadLetterSink.ref, spec.delivery.deadLetterSink.uri",
            id="sink",
        ),
    ],
)
def test_broker_is_refused(broker: dict[str, Any], expected: str) -> None:
    """A Broker's faults are told as Knative tells them."""
    assert refusal(BY_RESOURCE["brokers.eventing.knative.dev"], broker) == expected


def test_broker_config_is_immutable() -> None:
    """A Broker's config cannot change, its delivery can, and what admission fills in is no change."""
    kind = BY_RESOURCE["brokers.eventing.knative.dev"]
    config = {"apiVersion": "v1", "kind": "ConfigMap", "name": "c"}
    old = kind.default(a_broker({"config": config}), None)
    assert refusal(kind, a_broker({"config": config, "delivery": {"retry": 1}}), old) == ""
    assert refusal(kind, a_broker({"config": config | {"name": "d"}}), old) == (
        'Immutable fields changed (-old +new): spec\n{v1.BrokerSpec}.Config.Name:\n\t-: "c"\n\t+: "d"\n'
    )


def test_broker_class_is_immutable() -> None:
    """A Broker cannot move to another class; without the annotation it is compared after defaulting."""
    kind = BY_RESOURCE["brokers.eventing.knative.dev"]
    old = a_broker(annotations=of_class("Kafka"))
    assert refusal(kind, a_broker(), old) == (
        'Immutable annotations changed (-old +new): annotations\n{string}:\n\t-: "Kafka"\n\t+: "Penstock"\n'
    )
    assert refusal(kind, a_broker(), a_broker(annotations=of_class("Penstock"))) == ""


def test_deleted_objects_are_let_through() -> None:
    """Finalizers can be taken off an object that would not be admitted any more."""
    validate_broker(a_broker({"config": {}}, deletionTimestamp="2026-01-01T00:00:00Z"), None)
    trigger = a_trigger(broker="")
    trigger["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    validate_trigger(trigger, None)


# --- Trigger ---------------------------------------------------------------------------------------------------------

DEPENDENCY = "metadata.annotations[knative.dev/dependency]"
INJECTION = "metadata.annotations[eventing.knative.dev/injection]"
NAME_RULE = "Attribute name must start with a letter and can only contain lowercase alphanumeric"
CLUSTER_LINKS = "only name, apiVersion and kind are supported fields when feature.CrossNamespaceEventLinks is disabled"
REF = {"apiVersion": "v1", "kind": "Service", "name": "s"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({}, "", id="plain"),
        pytest.param(
            {"brokerRef": {"name": "b"}},
            "expected exactly one, got both: spec.broker, spec.brokerRef",
            id="broker-and-ref",
        ),
        pytest.param({"broker": "", "brokerRef": {}}, "missing field(s): spec.brokerRef.name", id="ref-without-name"),
        pytest.param(
            {"broker": "", "brokerRef": {"name": "b", "namespace": "x"}},
            f"must not set the field(s): spec.namespace\n{CLUSTER_LINKS}",
            id="ref-across-namespaces",
        ),
        pytest.param(
            {"subscriber": None},
            "expected at least one, got none: spec.subscriber.ref, spec.subscriber.uri",
            id="no-subscriber",
        ),
        pytest.param(
            {"subscriber": {"ref": REF, "uri": "http://x"}},
            "Absolute URI is not allowed when Ref or [apiVersion, kind, name] is present: "
            "spec.subscriber.ref, spec.subscriber.uri, spec.subscriber[apiVersion, kind, name]",
            id="ref-and-absolute-uri",
        ),
        pytest.param({"subscriber": {"ref": REF, "uri": "/path"}}, "", id="ref-and-path"),
        pytest.param(
            {"subscriber": {"uri": "/path"}},
            "invalid value: Relative URI is not allowed when Ref and [apiVersion, kind, name] is absent: "
            "spec.subscriber.uri",
            id="path-alone",
        ),
        pytest.param(
            {"subscriber": {"uri": ""}},
            "invalid value: Relative URI is not allowed when Ref and [apiVersion, kind, name] is absent: "
            "spec.subscriber.uri",
            id="empty-uri",
        ),
        pytest.param(
            {"subscriber": {"uri": "http://a b"}},
            "invalid value: http://a b: spec.subscriber.uri\n' ' may not stand in a URI: percent-encode it",
            id="blank-in-uri",
        ),
        pytest.param(
            {"subscriber": {"ref": {"name": "s"}}},
            "missing field(s): spec.subscriber.ref.apiVersion, spec.subscriber.ref.kind",
            id="half-a-ref",
        ),
        pytest.param(
            {"subscriber": {"ref": {**REF, "group": "g"}}},
            "must not set the field(s): spec.subscriber.ref.group",
            id="group",
        ),
        pytest.param(
            {"subscriber": {"uri": "http://x", "CACerts": ""}},
            "invalid value: CA Cert provided is invalid: spec.subscriber.caCert",
            id="empty-certificate",
        ),
        pytest.param(
            {
                "subscriber": {
                    "uri": "http://x",
                    "CACerts": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
                }
            },
            "",
            id="certificate",
        ),
        pytest.param(
            {"filter": {"attributes": {"Type": "a"}}},
            f'invalid key name "Type": spec.filter.attributes[Type]\n{NAME_RULE}',
            id="attribute-name",
        ),
        pytest.param(
            {"filters": [{"exact": {"a": "1"}}, {"not": {"prefix": {"b_c": "1"}}}, {"suffix": {"D": "1"}}]},
            f'invalid key name "D": spec.filters[2].suffix[D]\n{NAME_RULE}\n'
            f'invalid key name "b_c": spec.filters[1].not.prefix[b_c]\n{NAME_RULE}',
            id="attribute-names-of-filters",
        ),
        pytest.param(
            {"filters": [{"all": [{"exact": {"a": "1"}, "prefix": {"a": "1"}}]}]},
            "multiple dialects found, filters can have only one dialect set: spec.filters[0].all[0]",
            id="dialects",
        ),
        pytest.param(
            {"filters": [{"exakt": {"a": "1"}}]},
            "must not set the field(s): spec.filters[0].exakt\n"
            "there is no such field; known are all, any, cesql, exact, not, prefix, suffix",
            id="misspelt-dialect",
        ),
        pytest.param(
            {"filters": [{"exact": {"type": "a"}}, {"cesql": "type = 'a' #"}]},
            "invalid value: type = 'a' #: spec.filters[1].cesql\n"
            "the character # has no meaning here (position 12)\n  type = 'a' #\n             ^",
            id="cesql",
        ),
        pytest.param({"filters": [{"exact": {"type": "a"}, "prefix": None}]}, "", id="null-dialect"),
        pytest.param(
            {"filtres": []},
            "must not set the field(s): spec.filtres\n"
            "there is no such field; known are broker, brokerRef, delivery, filter, filters, subscriber",
            id="misspelt-field",
        ),
    ],
)
def test_trigger_is_refused(spec: dict[str, Any], expected: str) -> None:
    """A Trigger's faults are told as Knative tells them, and a misspelt filter is one."""
    assert refusal(BY_RESOURCE["triggers.eventing.knative.dev"], a_trigger(**spec)) == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [("retry", -1), ("backoffPolicy", "quadratic"), ("backoffDelay", "soon"), ("timeout", "PT0S"), ("format", "xml")],
)
def test_delivery_is_refused(field: str, value: object) -> None:
    """A delivery field that cannot be used is named with its value, as Knative does it, and with what it takes."""
    text = refusal(BY_RESOURCE["triggers.eventing.knative.dev"], a_trigger(delivery={field: value}))
    first, _, details = text.partition("\n")
    assert first == f"invalid value: {value}: spec.delivery.{field}"
    assert details


def test_all_faults_of_a_delivery_are_told() -> None:
    """Two bad fields are two complaints."""
    text = refusal(
        BY_RESOURCE["triggers.eventing.knative.dev"], a_trigger(delivery={"retry": -1, "backoffDelay": "soon"})
    )
    assert "spec.delivery.retry" in text
    assert "spec.delivery.backoffDelay" in text


@pytest.mark.parametrize(
    "filters",
    [[{"cesql": "type = "}], [{"exact": {}}], [{"exact": {"a": ""}}], [{"all": []}], [{"exact": {"a": 5}}], ["text"]],
    ids=["cesql", "empty-map", "empty-value", "empty-list", "number", "no-object"],
)
def test_filter_that_cannot_be_compiled_is_refused(filters: list[Any]) -> None:
    """Everything that the compiler refuses is refused on admission, with the path to it."""
    assert "spec.filters[0]" in refusal(BY_RESOURCE["triggers.eventing.knative.dev"], a_trigger(filters=filters))


def test_filters_may_not_be_nested_without_end() -> None:
    """A manifest of a thousand nested filters is refused as any other fault, and breaks nothing."""
    nested: dict[str, Any] = {"exact": {"type": "a"}}
    for _ in range(1000):
        nested = {"all": [nested]}
    # Not through defaulting: a deep copy of this runs out of stack.
    with pytest.raises(Denied, match="filters are nested more than 200 deep"):
        validate_trigger(a_trigger(filters=[nested]), None)


@pytest.mark.parametrize(
    ("annotations", "broker", "expected"),
    [
        pytest.param(
            {"knative.dev/dependency": '{"kind":"PingSource","name":"p","apiVersion":"sources.knative.dev/v1"}'},
            "default",
            "",
            id="dependency",
        ),
        pytest.param(
            {"knative.dev/dependency": '{"kind":"PingSource","namespace":"x"}'},
            "default",
            f'Namespace must be empty or equal to the trigger namespace "ns": {DEPENDENCY}.namespace\n'
            f"missing field(s): {DEPENDENCY}.apiVersion, {DEPENDENCY}.name",
            id="dependency-elsewhere",
        ),
        pytest.param({"eventing.knative.dev/injection": "enabled"}, "default", "", id="injection"),
        pytest.param(
            {"eventing.knative.dev/injection": "yes"},
            "other",
            "The provided injection annotation is only used for default broker, but non-default broker specified here: "
            f'"other": {INJECTION}\n'
            'The provided injection annotation value can only be "enabled" or "disabled", not "yes": '
            f"{INJECTION}",
            id="injection-value",
        ),
    ],
)
def test_trigger_annotations(annotations: dict[str, str], broker: str, expected: str) -> None:
    """Knative's two annotations are checked."""
    kind = BY_RESOURCE["triggers.eventing.knative.dev"]
    assert refusal(kind, a_trigger(annotations, broker=broker)) == expected


def test_dependency_must_be_json() -> None:
    """A dependency that is no JSON is refused with the parser's words."""
    text = refusal(BY_RESOURCE["triggers.eventing.knative.dev"], a_trigger({"knative.dev/dependency": "p"}))
    assert text.startswith(f'The provided annotation was not a corev1.ObjectReference: "p": {DEPENDENCY}\n')


def test_broker_of_a_trigger_is_immutable() -> None:
    """A Trigger stays with its Broker; everything else may change."""
    kind = BY_RESOURCE["triggers.eventing.knative.dev"]
    assert refusal(kind, a_trigger(broker="other"), a_trigger()) == (
        'Immutable fields changed (-old +new): broker, spec\n{string}:\n\t-: "default"\n\t+: "other"\n'
    )
    assert refusal(kind, a_trigger(subscriber={"uri": "http://else"}), a_trigger()) == ""
