"""Pinging another node through the one on this computer."""

from __future__ import annotations

import asyncio

from gridnode.cli.json_records import Pong
from gridnode.cli.showing import milliseconds, print_json, printable, stdout
from gridnode.control.client import ControlClient
from gridnode.control.status_schema import NodeStatus, PeerStatus
from gridnode.core.addresses import Address
from gridnode.errors import BadInput, PeerLost

PING_INTERVAL_S = 1.0


async def ping_peer(api: Address, wanted: str, *, count: int, as_json: bool) -> None:
    """Ping the peer that `wanted` names `count` times, and print every answer.

    Raises:
        NotRunning: no node answers.
        BadInput: no peer, or more than one, is called so.
        PeerLost: there was no answer at all.
    """
    async with ControlClient(api) as client:
        peer_id = find_peer(await client.status(), wanted).peer_id
        answered, problem = 0, ""
        for number in range(count):
            if number:
                await asyncio.sleep(PING_INTERVAL_S)
            pong = await _ping(client, peer_id)
            answered += pong.rtt_s is not None
            problem = pong.problem or problem
            if as_json:
                print_json(pong)
            else:
                stdout().print(pong_line(pong), markup=False, soft_wrap=True)
    if not answered:
        raise PeerLost(f"node {peer_id[:8]} did not answer: {problem}")


async def _ping(client: ControlClient, peer_id: str) -> Pong:
    reached = await client.reach(peer_id)
    found = next((peer for peer in (await client.status()).peers if peer.peer_id == peer_id), None)
    return Pong(
        peer_id=peer_id,
        path=found.path if found else "none",
        address=found.address if found else "",
        rtt_s=reached.rtt_s if reached.success else None,
        problem=reached.message or "",
    )


def find_peer(status: NodeStatus, wanted: str) -> PeerStatus:
    """Return the other node whose id begins with `wanted`, or whose public name it is.

    Raises:
        BadInput: there is none, or there are several.
    """
    others = [peer for peer in status.peers if not peer.is_self]
    found = [peer for peer in others if peer.public_name == wanted or peer.peer_id.startswith(wanted.lower())]
    if len(found) == 1:
        return found[0]
    names = ", ".join(_name(peer) for peer in found or others) or "none yet"
    problem = "fits several nodes" if found else "fits no node of the swarm"
    raise BadInput(f"{wanted!r} {problem}; {'they are' if found else 'there are'}: {names}")


def pong_line(pong: Pong) -> str:
    """Return what people read of an answer."""
    if pong.rtt_s is None:
        return f"no answer from {pong.peer_id[:8]}: {pong.problem}"
    return f"pong from {pong.peer_id[:8]} by {pong.path} {pong.address} in {milliseconds(pong.rtt_s)} ms"


def _name(peer: PeerStatus) -> str:
    return f"{peer.short} ({printable(peer.public_name)})" if peer.public_name else peer.short
