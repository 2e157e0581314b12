"""What a channel URL for NATS may say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme

from channels.errors import StoreError
from channels.jetstream.address import parse_address

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "servers", "prefix", "login"),
    [
        ("nats://h:4222", ["nats://h:4222"], "penstock", {}),
        ("nats://h:4222/", ["nats://h:4222"], "penstock", {}),
        ("nats://a:1,b:2/shop", ["nats://a:1", "nats://b:2"], "shop", {}),
        ("nats://[::1]:4222", ["nats://[::1]:4222"], "penstock", {}),
        ("nats://u:p%40ss@h:1", ["nats://h:1"], "penstock", {"user": "u", "password": "p@ss"}),
        ("nats://t0ken@h:1", ["nats://h:1"], "penstock", {"token": "t0ken"}),
        ("nats://h:1?creds=/etc/u.creds", ["nats://h:1"], "penstock", {"user_credentials": "/etc/u.creds"}),
        ("nats://h:1/p?nkey=/etc/u.nk&replicas=3", ["nats://h:1"], "p", {"nkeys_seed": "/etc/u.nk"}),
    ],
)
def test_addresses(url: str, servers: list[str], prefix: str, login: dict[str, str]) -> None:
    address = parse_address(url)
    assert (list(address.servers), address.prefix, address.login) == (servers, prefix, login)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nats://", "a host is missing"),
        ("nats://a:1,,b:2", "a host is missing"),
        ("nats://h:1/a/b", "the prefix 'a/b'"),
        ("nats://h:1/a.b", "the prefix 'a.b'"),
        ("nats://h:1?user=x", "unknown parameter 'user'"),
        ("nats://h:1?replicas=0", "replicas='0'"),
        ("nats://h:1?ca=/nowhere", "the TLS files cannot be read"),
    ],
)
def test_what_is_wrong_with_an_address(url: str, words: str) -> None:
    with pytest.raises(StoreError, match=r"^--channel nats://") as error:
        parse_address(url)
    assert words in str(error.value)


def test_no_secret_is_shown() -> None:
    """Messages have the URL without its login."""
    assert parse_address("nats://u:secret@h:1/p").shown == "nats://h:1/p"
    with pytest.raises(StoreError) as error:
        parse_address("nats://u:secret@h:1/p.q")
    assert "secret" not in str(error.value)


def test_tls(tmp_path: Path) -> None:
    """`tls://` asks for TLS, and so does a certificate authority."""
    authority = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(authority))
    assert "tls" in parse_address("tls://h:1").login
    assert "tls" in parse_address(f"nats://h:1?ca={authority}").login
    assert "tls" not in parse_address("nats://h:1").login
