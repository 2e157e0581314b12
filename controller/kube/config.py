"""Where the API server is and how to log in to it: from a kubeconfig, or from what Kubernetes puts into a pod."""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.kube.errors import KubeconfigError

POD_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class KubeConfig:
    """One API server and one way to log in. Certificates and keys are PEM text.

    `ca` None means the system's certificates. `token_file` is read for each request, because the kubelet renews it;
    it goes before `token`. A token is never sent over plain http, as with kubectl. `namespace` is the default one.
    """

    server: str
    ca: str | None = None
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    client_cert: str | None = None
    client_key: str | None = field(default=None, repr=False)
    insecure_skip_tls_verify: bool = False
    namespace: str = "default"


def load_kubeconfig(path: Path, context: str | None = None) -> KubeConfig:
    """The current context (or the one named) of a kubeconfig file. Files that it names are relative to it.

    Raises KubeconfigError when it cannot be read, is incomplete, or asks for what is not supported.
    """
    return _Kubeconfig(path).config(context)


def load_pod_config(account: Path = POD_ACCOUNT) -> KubeConfig | None:
    """The configuration of a pod from its ServiceAccount, or None where this process is not in a pod."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    token_file = account / "token"
    if not host or not port or not token_file.exists():
        return None
    address = f"[{host}]" if ":" in host else host
    try:
        return KubeConfig(
            server=f"https://{address}:{port}",
            ca=(account / "ca.crt").read_text(encoding="ascii"),
            token_file=token_file,
            namespace=(account / "namespace").read_text(encoding="utf-8").strip() or "default",
        )
    except (OSError, UnicodeDecodeError) as error:
        raise KubeconfigError(f"the ServiceAccount of this pod cannot be read: {error}") from error


_UNSUPPORTED = {
    "cluster": {
        "proxy-url": "set HTTPS_PROXY instead",
        "tls-server-name": "use a server address that the certificate names",
    },
    "user": {
        "exec": "use a token or a client certificate",
        "auth-provider": "use a token or a client certificate",
        "username": "use a token or a client certificate",
        "password": "use a token or a client certificate",
        "as": "log in as that user",
        "as-groups": "log in as that user",
        "as-uid": "log in as that user",
        "as-user-extra": "log in as that user",
    },
}


class _Kubeconfig:
    """One parsed file. Its errors begin with the path of the file and name the field."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._document = self._parse()

    def config(self, context: str | None) -> KubeConfig:
        name = context or self._text(self._document, "current-context", "current-context")
        if not name:
            raise self._error("current-context is not set: choose one with `kubectl config use-context`")
        where = self._named("contexts", "context", name)
        cluster_name = self._text(where, "cluster", f"contexts[{name}].cluster")
        if not cluster_name:
            raise self._error(f"contexts[{name}].cluster is not set")
        cluster = self._named("clusters", "cluster", cluster_name)
        user_name = self._text(where, "user", f"contexts[{name}].user")
        user = self._named("users", "user", user_name) if user_name else {}
        return self._combine(
            cluster,
            f"clusters[{cluster_name}]",
            user,
            f"users[{user_name}]",
            self._text(where, "namespace", "namespace"),
        )

    def _combine(
        self, cluster: dict[str, Any], at_cluster: str, user: dict[str, Any], at_user: str, namespace: str | None
    ) -> KubeConfig:
        self._refuse_unsupported("cluster", cluster, at_cluster)
        self._refuse_unsupported("user", user, at_user)
        server = self._text(cluster, "server", f"{at_cluster}.server")
        if not server or not server.startswith(("http://", "https://")):
            raise self._error(f"{at_cluster}.server must be an http or https URL, not {server!r}")
        client_cert = self._pem(user, "client-certificate", at_user)
        client_key = self._pem(user, "client-key", at_user)
        if (client_cert is None) != (client_key is None):
            raise self._error(f"{at_user} needs both client-certificate and client-key, or neither")
        token_file = self._text(user, "tokenFile", f"{at_user}.tokenFile")
        return KubeConfig(
            server=server,
            ca=self._pem(cluster, "certificate-authority", at_cluster),
            token=self._text(user, "token", f"{at_user}.token"),
            token_file=self._path.parent / token_file if token_file else None,
            client_cert=client_cert,
            client_key=client_key,
            insecure_skip_tls_verify=cluster.get("insecure-skip-tls-verify") is True,
            namespace=namespace or "default",
        )

    def _parse(self) -> dict[str, Any]:
        from ruamel.yaml import YAML  # noqa: PLC0415 - 50 ms that a pod does not need
        from ruamel.yaml.error import YAMLError  # noqa: PLC0415 - as above

        try:
            document = YAML(typ="safe", pure=True).load(self._path.read_text(encoding="utf-8"))
        except OSError as error:
            raise self._error(f"cannot be read: {error.strerror}") from error
        except (YAMLError, UnicodeDecodeError) as error:
            raise self._error(f"is not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(document, dict):
            raise self._error("is not a kubeconfig: a mapping with clusters, users and contexts is expected")
        return document

    def _named(self, section: str, member: str, name: str) -> dict[str, Any]:
        entries = self._document.get(section) or []
        if not isinstance(entries, list):
            raise self._error(f"{section} must be a list")
        for entry in entries:
            if isinstance(entry, dict) and entry.get("name") == name:
                value = entry.get(member) or {}
                if not isinstance(value, dict):
                    raise self._error(f"{section}[{name}].{member} must be a mapping")
                return value
        raise self._error(f"{section} has no entry named {name!r}")

    def _refuse_unsupported(self, kind: str, values: dict[str, Any], at: str) -> None:
        for name, remedy in _UNSUPPORTED[kind].items():
            if values.get(name):
                raise self._error(f"{at}.{name} is not supported yet: {remedy}")

    def _text(self, values: dict[str, Any], name: str, at: str) -> str | None:
        value = values.get(name)
        if value is None or isinstance(value, str):
            return value or None
        raise self._error(f"{at} must be a string, not {type(value).__name__}: put it in quotes")

    def _pem(self, values: dict[str, Any], name: str, at: str) -> str | None:
        """The text of a certificate or key: `name-data` in base64, or the file `name`. The data goes first, as in kubectl."""
        data = self._text(values, f"{name}-data", f"{at}.{name}-data")
        file = self._text(values, name, f"{at}.{name}")
        try:
            if data is not None:
                return base64.b64decode(data, validate=False).decode("utf-8")
            return None if file is None else (self._path.parent / file).read_text(encoding="utf-8")
        except (binascii.Error, UnicodeDecodeError) as error:
            field_name = name if data is None else f"{name}-data"
            raise self._error(f"{at}.{field_name} is not PEM text (in base64, where it is inline)") from error
        except OSError as error:
            raise self._error(f"{at}.{name}: {file} cannot be read: {error.strerror}") from error

    def _error(self, message: str) -> KubeconfigError:
        return KubeconfigError(f"{self._path}: {message}")
