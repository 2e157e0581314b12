"""The kubeconfig that points kubectl, kn and our own client at the embedded API."""

from __future__ import annotations

import base64
import ipaddress
import json

NAME = "penstock"


def kubeconfig_text(url: str, token: str = "", ca: str = "") -> str:
    """A kubeconfig file. `ca` is the PEM text of the certificate authority of an https `url`.

    kubectl sends a token over https only. Raises ValueError for a token with a plain http URL.
    """
    if token and not url.startswith("https:"):
        raise ValueError(f"{url}: kubectl never sends a token over plain http; serve https or take no token")
    cluster = {"server": url}
    if ca:
        cluster["certificate-authority-data"] = base64.b64encode(ca.encode()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": cluster}],
        "users": [{"name": NAME, "user": {"token": token} if token else {}}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME, "namespace": "default"}}],
        "current-context": NAME,
    }
    # JSON is YAML, and kubectl rewrites the file as it likes.
    return json.dumps(config, indent=2) + "\n"


def needs_token(host: str) -> bool:
    """Whether an API bound to this host must have a token: only the loopback addresses go without."""
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return True
