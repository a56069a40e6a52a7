"""Calling on nodes of the swarm, under a name that is kept nowhere: nobody takes it for a member."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence

from gridnode import __version__
from gridnode.cli.doctor.swarm import SwarmFacts, Visit
from gridnode.config import NodeConfig
from gridnode.config.swarm_file import find_swarm
from gridnode.control.client import ControlClient
from gridnode.control.status_schema import NodeStatus, PeerStatus
from gridnode.core.addresses import Address, is_loopback, parse_address
from gridnode.core.announcements import Announcement
from gridnode.core.ids import PeerId
from gridnode.core.swarm_pass import SwarmPass
from gridnode.errors import BadInput, GridError, KeyRefused, NotRunning, ProtocolError, SwarmRefused
from gridnode.net.identity import Identity
from gridnode.net.quic import QuicTransport
from gridnode.net.transport import Connection, Stream
from gridnode.node.handshake import Handshake
from gridnode.wire.codec import encode_message
from gridnode.wire.messages import Announce, Hello, OpenNews, expect_message
from gridnode.wire.signing import verify_announcement

# Peers beyond those of the configuration: enough to tell a wrong clock of theirs from one of ours.
_MAX_PEERS = 4
_DIAL_TIMEOUT_S = 5.0
# A node tells what it knows at once; in a swarm of hundreds it takes some messages.
_NEWS_TIMEOUT_S = 0.5

_Heard = tuple[Announcement, float]
"""An announcement, and the time on this computer's clock when it was made."""


async def ask_door(config: NodeConfig) -> tuple[NodeStatus | None, GridError | None]:
    """Return the status of the node that runs here, and why its door does not tell it, if one is there."""
    try:
        async with ControlClient(config.api) as client:
            return await client.status(), None
    except NotRunning:
        return None, None
    except GridError as exc:
        return None, exc


async def call_on_swarm(
    config: NodeConfig, status: NodeStatus | None, door_error: GridError | None
) -> SwarmFacts:
    """Return what the nodes of the configuration, and peers of the running node, say of themselves."""
    swarm, addresses, key_problem = _find(config)
    if status and status.swarm != swarm.name:
        swarm = SwarmPass(name=status.swarm)  # which it was told by flags
    known = [parse_address(peer.address) for peer in status.peers if _is_near(peer)] if status else []
    inviters = [address for address in addresses if address not in config.join]
    others = [address for address in known if address not in (*config.join, *inviters)][:_MAX_PEERS]
    visits = await asyncio.gather(
        *(call_on(address, swarm=swarm, is_joined=True) for address in (*config.join, *inviters)),
        *(call_on(address, swarm=swarm, is_joined=False) for address in others),
    )
    # An invitation names a node by all its addresses: one that answers is enough.
    unneeded = [visit for visit in visits if visit.address in inviters]
    unneeded.sort(key=lambda visit: bool(visit.problem))
    visits = [visit for visit in visits if visit not in unneeded[1:]]
    return SwarmFacts(
        status=status,
        door_problem=str(door_error or ""),
        needs_key=isinstance(door_error, KeyRefused),
        swarm=swarm,
        key_problem=key_problem,
        version=__version__,
        visits=tuple(visits),
    )


def _find(config: NodeConfig) -> tuple[SwarmPass, tuple[Address, ...], str]:
    """Return what this computer holds of its swarm, where its nodes are, and why that cannot be used."""
    try:
        found = find_swarm(config, os.environ)
    except BadInput as exc:
        return SwarmPass(name=config.swarm), (), str(exc)
    return found.swarm, found.addresses, ""


def _is_near(peer: PeerStatus) -> bool:
    return bool(peer.address) and not peer.is_self and peer.state != "unreachable"


async def call_on(
    address: Address, *, swarm: SwarmPass, is_joined: bool, wall_s: Callable[[], float] = time.time
) -> Visit:
    """Return what the node at `address` says. Cancelling is safe.

    Args:
        wall_s: Seconds since 1970, as this computer believes.
    """
    # From loopback nothing leaves this computer, and to others nothing leaves from loopback.
    wildcard = "::" if ":" in address.host else "0.0.0.0"
    bind = Address("127.0.0.1" if is_loopback(address) and wildcard == "0.0.0.0" else wildcard, 0)
    try:
        identity = Identity.generate()
        transport = QuicTransport(identity, bind)
    except GridError as exc:
        return Visit(address=address, is_joined=is_joined, problem=str(exc))
    try:
        connection = await transport.dial(address, peer_id=None, timeout_s=_DIAL_TIMEOUT_S)
        hello, refusal, heard = await _converse(connection, swarm, identity.peer_id, wall_s)
    except GridError as exc:
        return Visit(address=address, is_joined=is_joined, problem=str(exc))
    finally:
        await transport.aclose()
    return Visit(
        address=address,
        is_joined=is_joined,
        version=hello.version,
        protocol=hello.protocol,
        swarm=hello.swarm,
        refusal=refusal,
        announcements=tuple(announcement for announcement, _ in heard),
        clock_offset_s=_clock_offset_s(heard, connection.peer_id),
    )


async def _converse(
    connection: Connection, swarm: SwarmPass, me: PeerId, wall_s: Callable[[], float]
) -> tuple[Hello, str, list[_Heard]]:
    """Return how a node greets, why one side refuses the other, if it does, and what is told else."""
    handshake = Handshake(await connection.open_stream(), swarm, me=me, now_s=wall_s())
    hello = await handshake.greet()
    try:
        await handshake.prove(hello)
    except SwarmRefused as exc:
        return hello, str(exc), []
    except ProtocolError:
        return hello, "", []  # the check of the versions tells
    stream = await connection.open_stream()
    await stream.send(encode_message(OpenNews()))
    return hello, "", await _hear(stream, wall_s)


async def _hear(stream: Stream, wall_s: Callable[[], float]) -> list[_Heard]:
    """Return what is told within `_NEWS_TIMEOUT_S`."""
    heard: list[_Heard] = []
    try:
        async with asyncio.timeout(_NEWS_TIMEOUT_S):
            while (frame := await stream.receive()) is not None:
                for signed in expect_message(frame, Announce).announcements:
                    heard.append((verify_announcement(signed), wall_s() - signed.age_s))
    except TimeoutError:
        pass
    return heard


def _clock_offset_s(heard: Sequence[_Heard], teller: PeerId) -> float | None:
    """Return how far the clock of `teller` is ahead, by the newest it says of itself."""
    offsets_s = [ann.made_at_s - made_s for ann, made_s in heard if ann.peer_id == teller]
    return offsets_s[-1] if offsets_s else None
