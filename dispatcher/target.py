"""A destination's URL, read once: where to connect, and the lines that open each request to it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from eventing.delivery import Destination

_DEFAULT_PORTS = {"http": 80, "https": 443}

_URL_CHARACTERS = re.compile(r"[!-~]+")
"""What RFC 3986 leaves to a URL is within printable ASCII; so no space, line break or control gets into a request."""

_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]+)(?::(?P<port>[0-9]*))?")

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_MAX_HOST_NAME = 253


class InvalidUrl(ValueError):
    """The URL cannot be posted to. The text says why."""


class Origin(NamedTuple):
    """What a connection is good for. A named tuple because it is hashed for every request, in C."""

    scheme: str
    host: str
    port: int
    ca_certs: str

    @property
    def where(self) -> str:
        """`host:port`, as people write it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect, and `start`: the request line and the lines of the head that depend on nothing else."""

    origin: Origin
    start: bytes


def target_of(destination: Destination, user_agent: str) -> Target:
    """Read the URL of `destination` (RFC 3986, http and https).

    Raises InvalidUrl for anything that cannot be posted to as it stands: nothing in it is guessed or repaired.
    """
    parts = _split(destination.url)
    scheme = parts.scheme
    host, port = _authority(parts)
    origin = Origin(scheme, host, port, destination.ca_certs)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    named = f"[{host}]" if ":" in host else host
    host_line = named if origin.port == _DEFAULT_PORTS[scheme] else f"{named}:{origin.port}"
    start = f"POST {path} HTTP/1.1\r\nhost: {host_line}\r\nuser-agent: {user_agent}\r\n"
    return Target(origin, start.encode("ascii"))


def _split(url: str) -> SplitResult:
    # Looked at before urlsplit, which takes line breaks and tabs out in silence.
    if _URL_CHARACTERS.fullmatch(url) is None:
        raise InvalidUrl(f"{url!r} has a character that a URL cannot have: percent-encode it")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidUrl(f"{url!r} is no URL: {error}") from error
    if parts.scheme not in _DEFAULT_PORTS:
        raise InvalidUrl(f"{url!r} does not begin with http:// or https://")
    if "@" in parts.netloc:
        raise InvalidUrl("a URL with a user name or password is not taken: it would be shown in statuses and logs")
    return parts


def _authority(parts: SplitResult) -> tuple[str, int]:
    found = _AUTHORITY.fullmatch(parts.netloc)
    if found is None:
        raise InvalidUrl(f"{parts.netloc!r} is no host, and no host with a port")
    port = found["port"] or str(_DEFAULT_PORTS[parts.scheme])
    if len(port) > 5 or not 1 <= int(port) <= 65535:
        raise InvalidUrl(f"the port {port} is not a number from 1 to 65535")
    host = found["host"].lower()
    return (_address(host[1:-1]) if host.startswith("[") else _name(host)), int(port)


def _address(host: str) -> str:
    try:
        address = IPv6Address(host)
    except AddressValueError as error:
        raise InvalidUrl(f"{host!r} is no IPv6 address: {error}") from error
    if address.scope_id is not None:
        raise InvalidUrl(f"{host!r} names a network interface: use an address without %")
    return host


def _name(host: str) -> str:
    if len(host) > _MAX_HOST_NAME or _HOST_NAME.fullmatch(host) is None:
        raise InvalidUrl(f"{host!r} is no host name")
    return host
