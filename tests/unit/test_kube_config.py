"""Kubeconfig files and pods: what is read from them, and how what is wrong is named."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from controller.kube.config import KubeConfig, load_kubeconfig, load_pod_config
from controller.kube.errors import KubeconfigError

if TYPE_CHECKING:
    from pathlib import Path

CONTEXT = """
apiVersion: v1
kind: Config
current-context: dev
contexts:
- name: dev
  context: {cluster: here, user: me, namespace: team}
- name: bare
  context: {cluster: here}
"""


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def write(folder: Path, text: str) -> Path:
    path = folder / "config"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_penstock_serve_writes_needs_only_a_server(tmp_path: Path) -> None:
    """A cluster with a server and an empty user is a whole configuration."""
    path = write(
        tmp_path,
        CONTEXT + "clusters: [{name: here, cluster: {server: 'http://127.0.0.1:8001'}}]\nusers: [{name: me}]\n",
    )
    assert load_kubeconfig(path) == KubeConfig(server="http://127.0.0.1:8001", namespace="team")


def test_inline_data_is_decoded(tmp_path: Path) -> None:
    """`certificate-authority-data` and its like hold PEM text in base64."""
    path = write(
        tmp_path,
        f"""{CONTEXT}
clusters: [{{name: here, cluster: {{server: 'https://k', certificate-authority-data: {encoded("CA")}}}}}]
users: [{{name: me, user: {{client-certificate-data: {encoded("CERT")}, client-key-data: {encoded("KEY")}, token: t}}}}]
""",
    )
    assert load_kubeconfig(path) == KubeConfig(
        server="https://k", ca="CA", client_cert="CERT", client_key="KEY", token="t", namespace="team"
    )


def test_files_are_relative_to_the_kubeconfig(tmp_path: Path) -> None:
    """Paths inside a kubeconfig start at its own folder; a token file is remembered, not read."""
    (tmp_path / "ca.pem").write_text("CA", encoding="ascii")
    path = write(
        tmp_path,
        CONTEXT
        + "clusters: [{name: here, cluster: {server: 'https://k', certificate-authority: ca.pem}}]\n"
        + "users: [{name: me, user: {tokenFile: token}}]\n",
    )
    config = load_kubeconfig(path)
    assert config.ca == "CA"
    assert config.token_file == tmp_path / "token"


def test_another_context_can_be_named(tmp_path: Path) -> None:
    """A context without a user or namespace logs in as nobody and means `default`."""
    path = write(tmp_path, CONTEXT + "clusters: [{name: here, cluster: {server: 'http://k'}}]\n")
    assert load_kubeconfig(path, context="bare") == KubeConfig(server="http://k", namespace="default")


CLUSTER = "clusters: [{name: here, cluster: {server: 'https://k'}}]\n"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("{", "is not YAML", id="not-yaml"),
        pytest.param("- 1", "is not a kubeconfig", id="not-a-mapping"),
        pytest.param("apiVersion: v1", "current-context is not set", id="no-current-context"),
        pytest.param("current-context: x", "contexts has no entry named 'x'", id="no-context"),
        pytest.param(CONTEXT, "clusters has no entry named 'here'", id="no-cluster"),
        pytest.param(CONTEXT + CLUSTER, "users has no entry named 'me'", id="no-user"),
        pytest.param(
            CONTEXT + "clusters: [{name: here, cluster: {server: k}}]\nusers: [{name: me}]",
            "clusters[here].server must be an http or https URL, not 'k'",
            id="server-without-scheme",
        ),
        pytest.param(
            CONTEXT + CLUSTER + "users: [{name: me, user: {exec: {command: aws}}}]",
            "users[me].exec is not supported yet: use a token or a client certificate",
            id="exec",
        ),
        pytest.param(
            CONTEXT
            + "clusters: [{name: here, cluster: {server: 'https://k', proxy-url: 'http://p'}}]\nusers: [{name: me}]",
            "clusters[here].proxy-url is not supported yet: set HTTPS_PROXY",
            id="proxy-url",
        ),
        pytest.param(
            CONTEXT + CLUSTER + "users: [{name: me, user: {token: 123}}]",
            "users[me].token must be a string, not int",
            id="token-not-text",
        ),
        pytest.param(
            CONTEXT + CLUSTER + f"users: [{{name: me, user: {{client-key-data: {encoded('K')}}}}}]",
            "users[me] needs both client-certificate and client-key",
            id="key-without-certificate",
        ),
        pytest.param(
            CONTEXT + CLUSTER + "users: [{name: me, user: {client-key-data: 'a'}}]",
            "users[me].client-key-data is not PEM text",
            id="not-base64",
        ),
        pytest.param(
            CONTEXT + CLUSTER + "users: [{name: me, user: {client-key: gone.pem}}]",
            "users[me].client-key: gone.pem cannot be read",
            id="file-missing",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, names: str) -> None:
    """The error has the file, the field, and what to do."""
    path = write(tmp_path, text)
    with pytest.raises(KubeconfigError) as caught:
        load_kubeconfig(path)
    assert names in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A kubeconfig that does not exist is an error of ours."""
    with pytest.raises(KubeconfigError, match="cannot be read"):
        load_kubeconfig(tmp_path / "nowhere")


def test_secrets_do_not_show(tmp_path: Path) -> None:
    """A printed configuration has neither token nor key."""
    path = write(tmp_path, CONTEXT + CLUSTER + "users: [{name: me, user: {token: hidden}}]")
    assert "hidden" not in repr(load_kubeconfig(path))


def test_a_pod_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ServiceAccount that Kubernetes mounts is a configuration; an IPv6 address is put in brackets."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    for name, text in (("token", "t"), ("ca.crt", "CA"), ("namespace", "team\n")):
        (tmp_path / name).write_text(text, encoding="ascii")
    assert load_pod_config(tmp_path) == KubeConfig(
        server="https://[fd00::1]:443", ca="CA", token_file=tmp_path / "token", namespace="team"
    )


def test_outside_a_pod_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the variables alone nor the mounted folder alone make a pod."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    assert load_pod_config(tmp_path) is None
    (tmp_path / "token").write_text("t", encoding="ascii")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    assert load_pod_config(tmp_path) is None
