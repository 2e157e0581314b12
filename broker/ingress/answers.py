"""The answers of the ingress: a status, headers, and for every refusal a problem document (RFC 9457)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

ALLOW = (b"allow", b"POST, OPTIONS")
"""Every answer says which methods the ingress knows (the CloudEvents webhook specification asks for it)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, complete but for what the server adds."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = (ALLOW, (b"content-length", b"0"))
    body: bytes = b""


ACCEPTED = Answer(202)
"""The event is durable."""

WEBHOOK = Answer(
    200,
    (ALLOW, (b"webhook-allowed-origin", b"*"), (b"webhook-allowed-rate", b"*"), (b"content-length", b"0")),
)
"""The answer to OPTIONS: anybody may post, at any rate (CloudEvents webhook specification, abuse protection)."""


def probe(network_hash: bytes | None) -> Answer:
    """The answer to a Knative network probe: 200 with the hash that it brought."""
    extra = ((b"k-network-hash", network_hash),) if network_hash is not None else ()
    return Answer(200, (ALLOW, *extra, (b"content-length", b"0")))


def too_large(limit: int) -> Answer:
    """The refusal of a body of more than `limit` bytes."""
    return problem(413, f"the body is larger than {limit} bytes, which is what this Broker's channel takes")


def problem(
    status: int, detail: str, *, attribute: str = "", index: int | None = None, retry_after: int | None = None
) -> Answer:
    """A refusal. `detail` says what is wrong and how to mend it, `attribute` which context attribute is at fault, and
    `index` in which event of a batch.

    `retry_after` is in seconds.
    """
    document: dict[str, str | int] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if attribute:
        document["attribute"] = attribute
    if index is not None:
        document["index"] = index
    body = json.dumps(document).encode()
    headers = [ALLOW, (b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    if retry_after is not None:
        headers.append((b"retry-after", b"%d" % retry_after))
    return Answer(status, tuple(headers), body)
