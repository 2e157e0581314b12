"""Who we are to NATS: each way to log in, on a server that asks for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import nkeys
import pytest
import trustme

from channels.channel import ChannelSettings
from channels.errors import StoreError
from channels.registry import open_backend
from tests.servers import running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers import Server


def _password(folder: Path) -> tuple[str, Callable[[str], str]]:
    del folder
    return 'authorization { user: "ann", password: "s3cret/" }', lambda host: f"nats://ann:s3cret%2F@{host}"


def _token(folder: Path) -> tuple[str, Callable[[str], str]]:
    del folder
    return 'authorization { token: "t0ken" }', lambda host: f"nats://t0ken@{host}"


def _nkey(folder: Path) -> tuple[str, Callable[[str], str]]:
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    (folder / "user.nk").write_bytes(seed)
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    return f"authorization {{ users: [{{ nkey: {public} }}] }}", lambda host: f"nats://{host}?nkey={folder}/user.nk"


def _tls(folder: Path) -> tuple[str, Callable[[str], str]]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name, certificate in (("server", authority.issue_cert("127.0.0.1")), ("client", authority.issue_cert("us"))):
        certificate.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        certificate.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    files = f'cert_file: "{folder}/server.pem", key_file: "{folder}/server.key", ca_file: "{folder}/ca.pem"'
    parameters = f"ca={folder}/ca.pem&cert={folder}/client.pem&key={folder}/client.key"
    return f"tls {{ {files}, verify: true }}", lambda host: f"tls://{host}?{parameters}"


@pytest.mark.parametrize("way", [_password, _token, _nkey, _tls], ids=["password", "token", "nkey", "tls"])
async def test_a_login(tmp_path: Path, way: Callable[[Path], tuple[str, Callable[[str], str]]]) -> None:
    """With the login the channel opens; without it, it does not, and says why."""
    config, url = way(tmp_path)
    (tmp_path / "more.conf").write_text(config)
    with running("nats", tmp_path / "nats", NATS_CONFIG=str(tmp_path / "more.conf")) as server:
        async with open_backend(url(_host(server)), tmp_path / "data", ChannelSettings()) as backend:
            assert await backend.list() == []
        with pytest.raises(StoreError, match="cannot connect to NATS"):
            async with open_backend(server.url, tmp_path / "data", ChannelSettings()):
                pass


def _host(server: Server) -> str:
    return server.url.removeprefix("nats://")
