"""A relay: nodes register with it, find each other, and send each other packets that it cannot read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from gridnode.core.addresses import Address
from gridnode.core.ids import PeerId, short
from gridnode.core.relays import is_virtual, peer_tag
from gridnode.errors import GridError, ProtocolError
from gridnode.net.clock import now_s
from gridnode.net.endpoint import Endpoint
from gridnode.net.handshake_limit import network_of
from gridnode.net.quic_connection import QuicConnection
from gridnode.net.relay_counters import RelayCounters
from gridnode.net.relay_limits import ByteBucket, RelayLimits
from gridnode.net.transport import Stream
from gridnode.net.udp import Datagram, SocketAddress
from gridnode.wire.codec import encode_message
from gridnode.wire.relay_messages import (
    MAX_MEMBERS,
    FindMembers,
    Members,
    Observed,
    Register,
    Registered,
    RelayRefused,
    decode_relay_message,
)
from gridnode.wire.relay_packets import Relayed, absent, forwarded

logger = logging.getLogger("gridnode.net.relay")

# Nodes move, and tell us by a QUIC packet from their new address: looked for when an unknown address sends.
_MIN_LOOK_INTERVAL_S = 0.05
# How soon a node learns that it is seen at another address.
_OBSERVE_INTERVAL_S = 1.0
# Who asks more often waits: looking through all nodes costs a tenth of a millisecond.
_QUESTION_INTERVAL_S = 0.1


@dataclass(slots=True, eq=False)
class _Registration:
    peer_id: PeerId
    tag: bytes
    swarms: frozenset[str]
    connection: QuicConnection
    network: str
    bucket: ByteBucket
    destination: SocketAddress
    """Where the node is, as it has proven."""

    is_moving: bool = False
    """Whether it claims to be somewhere else."""

    @property
    def is_tunnelled(self) -> bool:
        """Whether the node is reached by WebSocket."""
        return is_virtual(self.destination[0])


class RelayServer:
    """Forwards packets between the nodes that are registered. It has no task of its own.

    Args:
        endpoint: Whose socket the packets come to.
        limits: How much it gives.
        counters: Where it counts.
    """

    def __init__(self, endpoint: Endpoint, limits: RelayLimits, counters: RelayCounters) -> None:
        self.counters = counters
        self.limits = limits
        self._endpoint = endpoint
        self._total = ByteBucket(limits.total_bytes_per_s, now=now_s())
        self._by_tag: dict[bytes, _Registration] = {}
        self._by_source: dict[SocketAddress, _Registration] = {}
        self._per_network: Counter[str] = Counter()
        self._looked_at = 0.0
        self._outgoing: list[Datagram] = []

    # --- registration ---

    async def serve(self, stream: Stream, register: Register) -> None:
        """Keep a node registered while its stream lasts.

        Raises:
            GridError: the connection broke, or the node said nonsense.
        """
        connection = stream.connection
        assert isinstance(connection, QuicConnection), "relays speak QUIC"
        refusal = self._refusal(connection)
        if refusal:
            logger.warning("refused %s: %s", short(connection.peer_id), refusal)
            await stream.send(encode_message(RelayRefused(text=refusal)))
            stream.finish()
            return
        registration = self._add(connection, register.swarms)
        try:
            await stream.send(encode_message(Registered(bytes_per_s=self.limits.node_bytes_per_s)))
            await self._attend(stream, registration)
        finally:
            self._remove(registration)

    def _refusal(self, connection: QuicConnection) -> str:
        """Return why a node cannot register, and count that if it is a limit; empty if it can."""
        known = self._by_tag.get(peer_tag(connection.peer_id))
        if known is None and len(self._by_tag) >= self.limits.nodes:
            self.counters.refused_nodes += 1
            return f"this relay has its {self.limits.nodes} nodes; name another one"
        network = self._network(connection)
        is_same = known is not None and known.network == network
        if not is_same and self._per_network[network] >= self.limits.nodes_per_address:
            self.counters.refused_nodes_per_address += 1
            return (
                f"this relay takes {self.limits.nodes_per_address} nodes from one address; name another one"
            )
        if not connection.is_address_proven:
            return "your address has just changed; try again"
        return ""

    def _network(self, connection: QuicConnection) -> str:
        return network_of(self._endpoint.real_address(connection.current_destination).host)

    def _add(self, connection: QuicConnection, swarms: Iterable[str]) -> _Registration:
        tag = peer_tag(connection.peer_id)
        if (known := self._by_tag.get(tag)) is not None:
            self._remove(known)  # the node has come back before its old connection was given up
        registration = _Registration(
            peer_id=connection.peer_id,
            tag=tag,
            swarms=frozenset(swarms),
            connection=connection,
            network=self._network(connection),
            bucket=ByteBucket(self.limits.node_bytes_per_s, now=now_s()),
            destination=connection.current_destination,
        )
        self._by_tag[tag] = registration
        self._by_source[registration.destination[:2]] = registration
        self._per_network[registration.network] += 1
        self.counters.registrations += 1
        self._count_node(registration, 1)
        logger.info("%s registered from %s", short(registration.peer_id), connection.address)
        return registration

    def _remove(self, registration: _Registration) -> None:
        if self._by_tag.get(registration.tag) is not registration:
            return
        del self._by_tag[registration.tag]
        if self._by_source.get(registration.destination[:2]) is registration:
            del self._by_source[registration.destination[:2]]
        self._per_network[registration.network] -= 1
        self._per_network += Counter()  # forget networks without nodes
        self._count_node(registration, -1)
        logger.info("%s left", short(registration.peer_id))

    def _count_node(self, registration: _Registration, change: int) -> None:
        if registration.is_tunnelled:
            self.counters.websocket_nodes += change
        else:
            self.counters.udp_nodes += change

    async def _attend(self, stream: Stream, registration: _Registration) -> None:
        """Answer a node's questions, and tell it where it is seen."""
        async with asyncio.TaskGroup() as group:
            observing = group.create_task(self._observe(stream, registration), name="observe")
            try:
                while (frame := await stream.receive()) is not None:
                    message = decode_relay_message(frame)
                    if isinstance(message, Register):
                        registration.swarms = frozenset(message.swarms)
                    elif isinstance(message, FindMembers):
                        await stream.send(encode_message(Members(peers=self._members(registration))))
                    else:
                        raise ProtocolError(f"{type(message).__name__} came on a registration")
                    await asyncio.sleep(_QUESTION_INTERVAL_S)
            finally:
                observing.cancel()

    async def _observe(self, stream: Stream, registration: _Registration) -> None:
        told: Address | None = None
        with contextlib.suppress(GridError):  # the other task meets it too
            while True:
                self._follow(registration)
                seen = registration.connection.address
                if seen != told and not is_virtual(registration.destination[0]):
                    told = seen
                    await stream.send(encode_message(Observed(address=seen)))
                await asyncio.sleep(_OBSERVE_INTERVAL_S)

    def _members(self, asking: _Registration) -> tuple[PeerId, ...]:
        others = [
            each.peer_id
            for each in self._by_tag.values()
            if each.swarms & asking.swarms and each is not asking
        ]
        # Who asks anew gets others, so that no part of a large swarm keeps to itself.
        return tuple(random.sample(others, min(len(others), MAX_MEMBERS)))

    # --- packets ---

    def receive(self, packet: Relayed, source: SocketAddress) -> None:
        """Forward a packet that came from `source`."""
        sender = self._by_source.get(source[:2]) or self._find(source)
        now = now_s()
        size = len(packet.payload)
        counters = self.counters
        if sender is None:
            counters.dropped_stranger += 1
            return
        if not sender.bucket.take(size, now=now):
            counters.dropped_node_rate += 1
            return
        if not self._total.take(size, now=now):
            counters.dropped_total_rate += 1
            return
        receiver = self._by_tag.get(packet.tag)
        if receiver is None:
            counters.dropped_absent += 1
            self._send(absent(packet.tag), sender.destination)
            return
        if receiver.is_moving:
            self._follow(receiver)
        if receiver.is_tunnelled:
            counters.websocket_packets += 1
            counters.websocket_bytes += size
        else:
            counters.udp_packets += 1
            counters.udp_bytes += size
        self._send(forwarded(sender.tag, packet.payload), receiver.destination)

    def _send(self, data: bytes, destination: SocketAddress) -> None:
        if not self._outgoing:
            # All packets of one wake-up leave together.
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append((data, destination))

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        self._endpoint.send(outgoing)

    def _find(self, source: SocketAddress) -> _Registration | None:
        """Return who has moved to `source`, or claims so, if anybody does."""
        now = now_s()
        if now - self._looked_at < _MIN_LOOK_INTERVAL_S:
            return None
        self._looked_at = now
        claiming: _Registration | None = None
        for registration in self._by_tag.values():
            self._follow(registration)
            if registration.is_moving and registration.connection.current_destination[:2] == source[:2]:
                claiming = registration
        return self._by_source.get(source[:2]) or claiming

    def _follow(self, registration: _Registration) -> None:
        """Take over where a node is, once it has proven that.

        Anybody can write somebody else's address on a packet, to flood it with our help.
        """
        destination = registration.connection.current_destination
        registration.is_moving = destination != registration.destination
        if not registration.is_moving or self._by_tag.get(registration.tag) is not registration:
            return
        if not registration.connection.is_address_proven:
            return
        registration.is_moving = False
        if self._by_source.get(registration.destination[:2]) is registration:
            del self._by_source[registration.destination[:2]]
        self._count_node(registration, -1)
        registration.destination = destination
        self._count_node(registration, 1)
        self._by_source[destination[:2]] = registration
