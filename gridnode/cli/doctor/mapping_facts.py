"""Letting the router map the port of the node for a moment, as the node would."""

from __future__ import annotations

import asyncio
import os
import sys

from gridnode.cli.doctor.mapping import MappingFacts
from gridnode.config import NodeConfig
from gridnode.config.swarm_file import find_swarm, maps_port
from gridnode.control.status_schema import NodeStatus, PortMappingStatus
from gridnode.core.addresses import Address, is_loopback, parse_address
from gridnode.core.invitation import Invitation
from gridnode.core.swarm_pass import SwarmPass
from gridnode.errors import BadInput
from gridnode.net.gateways import Gateway, NoMapping, default_gateway
from gridnode.net.port_mapping import map_port, unmap

# If the doctor dies meanwhile; routers take no less (RFC 6887, 15).
_LEASE_S = 120


async def look_at_mapping(
    config: NodeConfig, status: NodeStatus | None, *, listen: Address, running_pid: int | None
) -> MappingFacts:
    """Return what the router does for the node that runs here, or would do. Cancelling is safe.

    Args:
        listen: Where QUIC listens, or would.
        running_pid: Process of the node that runs here, if one does: then its word counts.
    """
    try:
        invitation = find_swarm(config, os.environ)
    except BadInput:
        invitation = Invitation(swarm=SwarmPass(name=config.swarm))  # the check of the swarm key tells
    unasked, mapped = "", None
    if running_pid is not None:
        mapped = status.port_mapping if status else None
        unasked = (
            "the node that runs here asks no router" if status else "the node that runs here does not tell"
        )
        listen = parse_address(status.listen) if status else listen
    else:
        unasked = _why_not(config, invitation, listen)
        if not unasked:
            unasked, mapped = await _try(listen)
    return MappingFacts(
        unasked=unasked,
        port=listen.port,
        has_relays=bool(config.relay or invitation.relays or (status and status.relays)),
        status=mapped,
        platform=sys.platform,
    )


def _why_not(config: NodeConfig, invitation: Invitation, listen: Address) -> str:
    if config.port_mapping is False:
        return "switched off by the configuration"
    if is_loopback(listen):
        return "no router is asked: no other computer reaches this node"
    if not maps_port(config, invitation):
        return "no router is asked to let others in: neither a relay nor a key is for this swarm"
    if not listen.port:
        return "no router is asked before the node has chosen its port"
    return ""


async def _try(listen: Address) -> tuple[str, PortMappingStatus | None]:
    """Return why there is no router to ask, or what came of asking it."""
    gateway = await asyncio.to_thread(default_gateway, listen.host)
    if gateway is None:
        return "no router stands between this computer and others, as far as its table of routes tells", None
    if not gateway.is_needed:
        return (
            f"no router has to let others in: this computer itself has the address {gateway.local_host}",
            None,
        )
    return "", await _map(gateway, listen.port)


async def _map(gateway: Gateway, port: int) -> PortMappingStatus:
    try:
        mapping = await map_port(gateway, port, wanted=port, lease_s=_LEASE_S)
    except NoMapping as exc:
        return PortMappingStatus(
            router=gateway.host,
            protocol="",
            address="",
            problem=str(exc),
            router_is_hidden=exc.is_router_hidden,
        )
    problem = ""
    try:
        await unmap(mapping)
    except NoMapping as exc:
        problem = f"it did not confirm that the mapping has ended: the router {exc}"
    return PortMappingStatus(
        router=gateway.host,
        protocol=mapping.protocol.value,
        address=str(mapping.external),
        problem=problem,
    )
