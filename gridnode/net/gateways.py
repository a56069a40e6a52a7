"""The router between this computer and the Internet, as the system's table of routes names it."""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gridnode.errors import NoCapacity
from gridnode.net.interfaces import LocalAddress, local_addresses

_LINUX_ROUTES = Path("/proc/net/route")
# Flags of a route, <linux/route.h>.
_UP, _HAS_GATEWAY = 0x1, 0x2
# The command answers from memory of the kernel.
_ROUTE_TIMEOUT_S = 2.0


class NoMapping(NoCapacity):
    """Raised when the router does not let a port of this computer be reached from outside.

    Attributes:
        is_router_hidden: Whether nobody on the Internet reaches the router itself, as behind another one.
    """

    def __init__(self, message: str, *, is_router_hidden: bool = False) -> None:
        super().__init__(message)
        self.is_router_hidden = is_router_hidden


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A router on a network of this computer."""

    host: str
    """Its IPv4 address."""

    local_host: str
    """The address of this computer on that network."""

    @property
    def is_needed(self) -> bool:
        """Whether others on the Internet cannot reach `local_host` without it."""
        return not ipaddress.ip_address(self.local_host).is_global


def default_gateway(bound: str) -> Gateway | None:
    """Return where packets to the Internet go first, from a socket bound to the IP address `bound`.

    None if there is no such router, as behind a tunnel. Asks the system; takes some milliseconds.
    """
    return choose_gateway(_default_routes(), local_addresses(bound))


def choose_gateway(routes: list[tuple[str, str]], local: tuple[LocalAddress, ...]) -> Gateway | None:
    """Return the first router of `routes`, best first, that is on a network of one of `local`. Pure."""
    for interface, host in routes:
        for address in local:
            if address.interface == interface and address.is_on_link(host):
                return Gateway(host=host, local_host=address.host)
    return None


def _default_routes() -> list[tuple[str, str]]:
    """Return interface and router of each default route of IPv4, the best first."""
    try:
        if sys.platform == "darwin":
            found = subprocess.run(
                ["/sbin/route", "-n", "get", "default"],
                capture_output=True,
                text=True,
                timeout=_ROUTE_TIMEOUT_S,
                check=False,
            )
            return read_macos_route(found.stdout)
        return read_linux_routes(_LINUX_ROUTES.read_text())
    except (OSError, subprocess.TimeoutExpired):
        return []


def read_linux_routes(text: str) -> list[tuple[str, str]]:
    """Return interface and router of the default routes in `/proc/net/route`, the best first. Pure."""
    return [(interface, host) for _, interface, host in sorted(_linux_routes(text))]


def _linux_routes(text: str) -> Iterator[tuple[int, str, str]]:
    for line in text.splitlines()[1:]:
        interface, destination, gateway, flags, _, _, metric, mask, *_ = line.split()
        is_default = int(destination, 16) == int(mask, 16) == 0
        if is_default and int(flags, 16) & (_UP | _HAS_GATEWAY) == _UP | _HAS_GATEWAY:
            # The four bytes of the address, printed as a number of this processor.
            yield int(metric), interface, socket.inet_ntoa(struct.pack("=I", int(gateway, 16)))


def read_macos_route(text: str) -> list[tuple[str, str]]:
    """Return interface and router that `route -n get default` names, if it names both. Pure."""
    said = dict(re.findall(r"^\s*(gateway|interface): (\S+)$", text, re.MULTILINE))
    try:
        return [(said["interface"], str(ipaddress.IPv4Address(said["gateway"])))]
    except (KeyError, ValueError):
        return []  # a tunnel has no router
