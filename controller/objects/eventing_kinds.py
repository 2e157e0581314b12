"""Broker and Trigger (`eventing.knative.dev/v1`): schemas and columns."""

from __future__ import annotations

from controller.objects import openapi as api
from controller.objects.defaults import default_broker, default_trigger
from controller.objects.kind import Column, Kind
from controller.objects.validate_broker import validate_broker
from controller.objects.validate_trigger import validate_trigger
from controller.objects.views import EVENTING

AGE = Column("Age", "date", ".metadata.creationTimestamp")
READY = Column("Ready", json_path='.status.conditions[?(@.type=="Ready")].status')
REASON = Column("Reason", json_path='.status.conditions[?(@.type=="Ready")].reason')
CATEGORIES = ("all", "knative", "eventing")


def broker_kind() -> Kind:
    """The Broker: a place to publish to, and the log behind it."""
    return Kind(
        EVENTING,
        "v1",
        "Broker",
        "brokers",
        "broker",
        schema=_broker_schema(),
        status=True,
        categories=CATEGORIES,
        columns=(
            Column("URL", json_path=".status.address.url"),
            AGE,
            READY,
            REASON,
            Column("Class", json_path=r".metadata.annotations.eventing\.knative\.dev/broker\.class", priority=1),
        ),
        default=default_broker,
        validate=validate_broker,
    )


def trigger_kind() -> Kind:
    """The Trigger: a filter and a subscriber, and a place of its own in the Broker's log."""
    return Kind(
        EVENTING,
        "v1",
        "Trigger",
        "triggers",
        "trigger",
        schema=_trigger_schema(),
        status=True,
        categories=CATEGORIES,
        columns=(
            Column("Broker", json_path=".spec.broker"),
            Column("Subscriber_URI", json_path=".status.subscriberUri"),
            AGE,
            READY,
            REASON,
        ),
        default=default_trigger,
        validate=validate_trigger,
    )


def _broker_schema() -> api.Schema:
    spec = api.record(
        {
            "config": api.reference("The ConfigMap that chooses the channel; without it the default channel is used."),
            "delivery": api.delivery("How deliveries are tried for the Triggers that do not say it themselves."),
        },
        "What the Broker is to be.",
    )
    status = api.status(
        {
            "address": api.address("Where events are sent to."),
            "addresses": api.array(api.address("One address."), "All addresses, the preferred one first."),
            "policies": api.array(
                api.record({"apiVersion": api.text(), "name": api.text()}), "The EventPolicies that apply."
            ),
            **_resolved("deadLetterSink", "the dead letter sink"),
        },
        "What the Broker is now.",
    )
    return api.whole(spec, status, "A Broker takes events and keeps them for its Triggers.")


def _trigger_schema() -> api.Schema:
    # Unknown fields are kept in the spec and in the filters. Pruning a misspelt filter would leave an empty one, which
    # matches every event; validation and the reconciler refuse what they do not know.
    spec = api.record(
        {
            "broker": api.text("Name of the Broker, in the same namespace."),
            "brokerRef": api.reference("The Broker as a reference, in place of broker."),
            "filter": api.record(
                {"attributes": api.anything("Attribute values that an event must have; an empty one means any value.")},
                "The older form of filters; it counts only where filters is not set.",
                preserve=True,
            ),
            "filters": api.array(_filter_schema(), "An event is delivered where all of these match."),
            "subscriber": api.destination("Where matching events are delivered to."),
            "delivery": api.delivery("How deliveries are tried. It replaces the Broker's as a whole."),
        },
        "What the Trigger is to be.",
        preserve=True,
    )
    status = api.status(
        {
            "auth": api.record(
                {"serviceAccountName": api.text(), "serviceAccountNames": api.array(api.text())},
                "The identity that deliveries are made with.",
            ),
            **_resolved("subscriber", "the subscriber"),
            **_resolved("deadLetterSink", "the dead letter sink"),
        },
        "What the Trigger is now.",
    )
    return api.whole(spec, status, "A Trigger delivers the events of a Broker that match its filters to a subscriber.")


def _filter_schema() -> api.Schema:
    # A structural schema cannot refer to itself, so that what is inside of all, any and not is free here.
    nested = api.anything("A filter.")
    return api.record(
        {
            "exact": api.anything("Attributes and the values they must be equal to."),
            "prefix": api.anything("Attributes and the texts their values must start with."),
            "suffix": api.anything("Attributes and the texts their values must end with."),
            "all": api.array(nested, "Filters that must all match."),
            "any": api.array(nested, "Filters of which one must match."),
            "not": api.anything("A filter that must not match."),
            "cesql": api.text("A CloudEvents SQL expression that must be true."),
        },
        "One filter, with exactly one of the dialects set.",
        preserve=True,
    )


def _resolved(prefix: str, what: str) -> api.Schema:
    return {
        f"{prefix}Uri": api.text(f"The resolved URL of {what}."),
        f"{prefix}CACerts": api.text(f"PEM certificates that are trusted for {what}."),
        f"{prefix}Audience": api.text(f"The OIDC audience of {what}."),
    }
