"""Packets beside QUIC: brings what relays forward and what probes say to the peer that it is about."""

from __future__ import annotations

import logging
from collections.abc import Callable

from gridnode.core.ids import PeerId
from gridnode.core.relays import is_virtual, peer_tag
from gridnode.net.carrier import PathKind
from gridnode.net.endpoint import Endpoint
from gridnode.net.relay_server import RelayServer
from gridnode.net.udp import SocketAddress
from gridnode.net.virtual_peer import DirectRoute, RelayRoute, VirtualPeer
from gridnode.wire.relay_packets import PROBE_BYTE, RELAY_BYTE, Relayed, parse_probe, parse_relayed

logger = logging.getLogger("gridnode.net.paths")

# As many as a node may have connections, and strangers that try; each costs about 2 kB.
MAX_PEERS = 1024


class PathRouter:
    """The peers of a node that are reached by virtual addresses, and the relays between.

    Args:
        endpoint: Whose packets beside QUIC it takes.
        peer_id: Who this node is.
        server: The relay that this node is for others, if it is one.
        is_translated: As that of `VirtualPeer`.
        on_change: Called when packets to some peer begin to take another way.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        peer_id: PeerId,
        *,
        server: RelayServer | None = None,
        is_translated: Callable[[], bool] = lambda: False,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._endpoint = endpoint
        self._own_tag = peer_tag(peer_id)
        self._server = server
        self._is_translated = is_translated
        self._on_change = on_change
        self._peers: dict[bytes, VirtualPeer] = {}
        self._relays: dict[SocketAddress, tuple[RelayRoute, PathKind]] = {}
        endpoint.on_raw = self._receive

    def close(self) -> None:
        """Carry nothing any more."""
        for peer in self._peers.values():
            peer.close()
        self._peers.clear()

    # --- relays ---

    def add_relay(self, relay: PeerId, destination: SocketAddress, kind: PathKind) -> RelayRoute:
        """Take packets from a relay that this node has registered with."""
        route = RelayRoute(relay, destination)
        self._relays[_key(destination)] = (route, kind)
        for peer in self._peers.values():
            peer.relay_is_back(route, kind)
        return route

    def remove_relay(self, route: RelayRoute) -> None:
        """Use a relay no more: its connection is gone."""
        if self._relays.get(_key(route.destination), (None,))[0] != route:
            return
        del self._relays[_key(route.destination)]
        for peer in self._peers.values():
            peer.remove(route)

    @property
    def relays(self) -> list[tuple[RelayRoute, PathKind]]:
        """The relays that this node is registered with now."""
        return list(self._relays.values())

    # --- peers ---

    def peer(self, peer_id: PeerId) -> VirtualPeer:
        """Return what carries packets to a peer."""
        return self._peer(peer_tag(peer_id))

    def _peer(self, tag: bytes) -> VirtualPeer:
        found = self._peers.get(tag)
        if found is None:
            if len(self._peers) >= MAX_PEERS:
                self._make_room()
            found = self._peers[tag] = VirtualPeer(
                self._endpoint,
                tag=tag,
                own_tag=self._own_tag,
                is_translated=self._is_translated,
                on_change=self._on_change,
            )
        return found

    def _make_room(self) -> None:
        """Forget the oldest peer without a connection."""
        for tag, peer in self._peers.items():
            if not self._endpoint.connections_to(peer.address):
                peer.close()
                del self._peers[tag]
                return

    # --- packets ---

    def _receive(self, data: bytes, source: SocketAddress) -> None:
        if data[0] == RELAY_BYTE:
            packet = parse_relayed(data)
            if packet is None:
                return
            if packet.kind != "D":
                self._receive_relayed(packet, source)
            elif self._server is not None:
                self._server.receive(packet, source)
        elif data[0] == PROBE_BYTE and not is_virtual(source[0]):
            probe = parse_probe(data)
            if probe is not None and probe.tag in self._peers:
                self._peers[probe.tag].receive_probe(probe, DirectRoute(self._endpoint.plain(source)))

    def _receive_relayed(self, packet: Relayed, source: SocketAddress) -> None:
        """Take what a relay forwards, if it is one of ours."""
        route, kind = self._relays.get(_key(source), (None, PathKind.RELAY))
        if route is None or packet.tag == self._own_tag:
            return
        if packet.kind == "x":
            if packet.tag in self._peers:
                self._peers[packet.tag].absent(route)
            return
        peer = self._peer(packet.tag)
        peer.add_relay(route, kind)
        first = packet.payload[0]
        if first & 0x40:
            self._endpoint.receive_one(packet.payload, peer.address)
        elif first == PROBE_BYTE:
            probe = parse_probe(packet.payload)
            if probe is not None and probe.tag == packet.tag:
                peer.receive_probe(probe, route, kind)


def _key(address: SocketAddress) -> SocketAddress:
    return address[:2]
