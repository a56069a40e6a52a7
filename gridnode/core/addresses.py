"""Where a node listens."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

DEFAULT_PORT = 7338
"""UDP port of QUIC; the same TCP port carries WebSocket and the LAN lane."""


class Address(NamedTuple):
    """An IP address and a UDP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def check_address(address: Address) -> None:
    """Accept what a socket can send to.

    Raises:
        ValueError: `address` is not an IP address with a port.
    """
    ipaddress.ip_address(address.host)
    check_port(address.port)


def check_port(port: int) -> None:
    """Accept a port that a socket can send to; asked for another one, it raises what nobody expects.

    Raises:
        ValueError: `port` is not in 1..65535.
    """
    if not 0 < port < 2**16:
        raise ValueError(f"port {port} is not in 1..65535")


def is_loopback(address: Address) -> bool:
    """Return whether only this computer can reach `address`."""
    return ipaddress.ip_address(address.host).is_loopback


def is_unspecified(address: Address) -> bool:
    """Return whether `address` stands for all addresses of a computer."""
    return ipaddress.ip_address(address.host).is_unspecified


def at_home(bound: Address) -> Address:
    """Return where this computer reaches a door that is bound to `bound`: always on loopback."""
    return bound if is_loopback(bound) else Address("127.0.0.1", bound.port)


def parse_address(text: str, *, default_port: int = DEFAULT_PORT) -> Address:
    """Return the address that `"192.0.2.7:7338"`, `"192.0.2.7"` or `"[2001:db8::7]:7338"` names.

    Raises:
        ValueError: `text` is not an IP address with an optional port.
    """
    host, port = text.strip(), str(default_port)
    if host.startswith("["):
        host, _, rest = host[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif host.count(":") == 1:
        host, port = host.split(":")
    try:
        number = int(port)
        canonical = str(ipaddress.ip_address("127.0.0.1" if host == "localhost" else host))
    except ValueError as exc:
        raise ValueError(f"{text!r} is not an address; write it like 192.0.2.7:{default_port}") from exc
    if not 0 <= number <= 65535:
        raise ValueError(f"{text!r} is not an address: port {number} is not in 0..65535")
    return Address(canonical, number)
