"""Asking the router to let a UDP port of this computer be reached from outside: by NAT-PMP, else by UPnP."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum

from gridnode.core.addresses import Address
from gridnode.net import nat_pmp, upnp
from gridnode.net.gateways import Gateway, NoMapping

LEASE_S = 900
"""What is asked for: a router that restarts forgets its mappings, and half of this later it hears again."""


class MappingProtocol(StrEnum):
    """By which a router was asked."""

    NAT_PMP = "NAT-PMP"
    UPNP = "UPnP"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortMapping:
    """A port of a router that leads to one of this computer."""

    protocol: MappingProtocol
    gateway: Gateway
    internal_port: int
    external: Address
    lease_s: float
    """From when it was made; a router that knows no limit keeps it until it is told otherwise."""

    description_url: str = ""
    """Where the router describes itself, for UPnP."""


async def map_port(gateway: Gateway, port: int, *, wanted: int, lease_s: int = LEASE_S) -> PortMapping:
    """Let the router forward a UDP port to this computer, or go on doing so. Takes up to some seconds.

    Cancelling is safe; the router may have mapped the port by then.

    Args:
        wanted: The port outside that would be best; the router may choose another one.

    Raises:
        NoMapping: the router does not do that, or nobody would reach it; the message says why.
    """
    try:
        return await _by_nat_pmp(gateway, port, wanted=wanted, lease_s=lease_s)
    except NoMapping as exc:
        refused = exc
    try:
        if refused.is_router_hidden:
            raise refused
        return await _by_upnp(gateway, port, wanted=wanted, lease_s=lease_s)
    except NoMapping as exc:
        said = str(exc) if exc is refused or exc.is_router_hidden else f"{refused}, and {exc}"
        raise NoMapping(f"the router {gateway.host} {said}", is_router_hidden=exc.is_router_hidden) from exc


async def _by_nat_pmp(gateway: Gateway, port: int, *, wanted: int, lease_s: int) -> PortMapping:
    outside = _public(await nat_pmp.ask_address(gateway))
    mapped = await nat_pmp.map_port(gateway, port, wanted=wanted, lease_s=lease_s)
    return PortMapping(
        protocol=MappingProtocol.NAT_PMP,
        gateway=gateway,
        internal_port=port,
        external=Address(outside, mapped.external_port),
        lease_s=mapped.lease_s,
    )


async def _by_upnp(gateway: Gateway, port: int, *, wanted: int, lease_s: int) -> PortMapping:
    url = await upnp.find(gateway)
    mapped = await upnp.map_port(gateway, url, port, wanted=wanted, lease_s=lease_s)
    _public(mapped.host)
    return PortMapping(
        protocol=MappingProtocol.UPNP,
        gateway=gateway,
        internal_port=port,
        external=mapped,
        lease_s=lease_s,
        description_url=url,
    )


def _public(host: str) -> str:
    """Return the address of a router on the Internet.

    Raises:
        NoMapping: it is none; the message follows the name of the router.
    """
    ip = ipaddress.ip_address(host)
    if not ip.is_global:
        what = "no address on the Internet" if ip.is_unspecified else f"the address {host}"
        raise NoMapping(
            f"itself has {what}: it is offline, or another router stands before it", is_router_hidden=True
        )
    return host


async def unmap(mapping: PortMapping) -> None:
    """End a mapping. Takes up to some seconds. Cancelling is safe.

    Raises:
        NoMapping: the router did not confirm it; the lease ends by itself.
    """
    if mapping.protocol is MappingProtocol.NAT_PMP:
        await nat_pmp.map_port(mapping.gateway, mapping.internal_port, wanted=0, lease_s=0)
    else:
        await upnp.unmap(mapping.gateway, mapping.description_url, mapping.external.port)
