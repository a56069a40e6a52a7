"""Nodes that only keep up with the swarm: real services, without blocks and without a door."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gridnode.config.swarm_file import SwarmFile
from gridnode.core.addresses import Address
from gridnode.core.announcements import Announcement, PeerState, Serving
from gridnode.core.ids import PeerId
from gridnode.core.invitation import Invitation
from gridnode.core.swarm_pass import NONCE_BYTES, SwarmPass
from gridnode.net.identity import Identity
from gridnode.net.memory import MemoryNetwork
from gridnode.net.quic import QuicTransport
from gridnode.net.transport import Connection, Stream
from gridnode.node.admission import Admission
from gridnode.node.handshake import Handshake
from gridnode.node.links import Links
from gridnode.node.membership import Membership, MembershipConfig
from gridnode.wire.codec import encode_message
from gridnode.wire.frames import Frame
from gridnode.wire.messages import (
    PROTOCOL_VERSION,
    Announce,
    Hello,
    OpenNews,
    SignedAnnouncement,
    decode_message,
)

LOOPBACK = Address("127.0.0.1", 0)
HOME = SwarmPass(name="home")


@dataclass
class Neighbour:
    """A node that only keeps up with the swarm."""

    identity: Identity
    links: Links
    membership: Membership
    admission: Admission
    address: Address
    state: PeerState = PeerState.ONLINE

    @property
    def peer_id(self) -> PeerId:
        return self.identity.peer_id

    def knows(self, *others: Neighbour) -> Callable[[object], bool]:
        wanted = {other.peer_id for other in others} | {self.peer_id}
        return lambda _: self.membership.swarm.peers.keys() == wanted


@asynccontextmanager
async def neighbour(
    network: MemoryNetwork | None,
    *,
    join: tuple[Address, ...] = (),
    invited_by: tuple[Address, ...] = (),
    swarm: SwarmPass = HOME,
    ttl_s: float = 90.0,
    wall_s: Callable[[], float] = time.time,
    serving: Serving | None = None,
    state_dir: Path = Path("/nonexistent"),
) -> AsyncIterator[Neighbour]:
    """Run one. Without a network in memory, it is on loopback."""
    identity = Identity.generate()
    transport = network.transport(identity.peer_id) if network else QuicTransport(identity, LOOPBACK)
    admission = Admission(identity.peer_id, Invitation(swarm=swarm), SwarmFile(state_dir), wall_s=wall_s)
    node: Neighbour

    async def greet(connection: Connection) -> None:
        if connection.peer_id != identity.peer_id:
            await node.membership.greet(connection)

    async def serve(stream: Stream) -> None:
        message = decode_message(await stream.receive() or Frame(0, {}))
        if isinstance(message, Hello):
            await admission.answer(stream, message)
        else:
            await node.membership.exchange(stream)

    def describe(sequence: int, ttl_s: float) -> Announcement:
        return Announcement(
            peer_id=identity.peer_id,
            sequence=sequence,
            ttl_s=ttl_s,
            state=node.state,
            swarm=swarm.name,
            serving=serving,
            addresses=(transport.address,),
        )

    own_links = Links(identity.peer_id, on_stream=serve, on_connection=greet, admit=admission.admit)
    config = MembershipConfig(
        swarm=swarm.name,
        join=join,
        invited_by=invited_by,
        announce_interval_s=ttl_s / 3,
        announcement_ttl_s=ttl_s,
        mesh_interval_s=0.02,
    )
    membership = Membership(
        config, own_links, describe=describe, sign=identity.sign, may_serve=admission.may_serve, wall_s=wall_s
    )
    node = Neighbour(identity, own_links, membership, admission, transport.address)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(own_links.run([transport]))
        keeping = group.create_task(membership.run())
        letting_in = group.create_task(admission.run())
        await asyncio.sleep(0)  # both begin
        try:
            yield node
        finally:
            keeping.cancel()
            letting_in.cancel()
            running.cancel()


async def introduce(connection: Connection, me: PeerId, *, swarm: SwarmPass = HOME) -> None:
    """Say on a new connection, which `me` dialled, what nodes say first."""
    handshake = Handshake(await connection.open_stream(), swarm, me=me, now_s=time.time())
    await handshake.prove(await handshake.greet())


@asynccontextmanager
async def telling(
    network: MemoryNetwork, listener: Neighbour, *, protocol: int = PROTOCOL_VERSION
) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """Yield a function with which a rogue peer tells `listener` signed announcements."""
    transport = network.transport(Identity.generate().peer_id)
    connection = await transport.dial(listener.address, peer_id=listener.peer_id, timeout_s=1)
    stream = await connection.open_stream()
    hello = Hello(protocol=protocol, version="rogue", swarm="home", nonce=bytes(NONCE_BYTES))
    await stream.send(encode_message(hello))
    stream.finish()
    news = await connection.open_stream()
    await news.send(encode_message(OpenNews()))

    async def tell(*announcements: SignedAnnouncement) -> None:
        await news.send(encode_message(Announce(announcements=announcements)))

    yield tell
    await transport.aclose()
