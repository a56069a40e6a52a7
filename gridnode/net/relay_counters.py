"""What a relay counts: who is there, what passed, and what did not, by the limit that it met. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class RelayCounters:
    """What a relay does: nodes now, everything else since it started."""

    udp_nodes: int = 0
    """Nodes that are registered now, and reached by UDP."""

    websocket_nodes: int = 0
    """Nodes that are registered now, and reached by WebSocket."""

    registrations: int = 0
    """Times that a node was registered; one that comes back counts again."""

    refused_nodes: int = 0
    """Registrations and WebSockets refused because the relay has all the nodes that it takes."""

    refused_nodes_per_address: int = 0
    """Those refused because their address has all the nodes that one address may have."""

    udp_packets: int = 0
    """Forwarded to nodes by UDP."""

    udp_bytes: int = 0
    websocket_packets: int = 0
    """Forwarded to nodes by WebSocket."""

    websocket_bytes: int = 0

    dropped_node_rate: int = 0
    """Packets above what one node may send."""

    dropped_total_rate: int = 0
    """Packets above what all nodes together may send."""

    dropped_stranger: int = 0
    """Packets from where no registered node is."""

    dropped_absent: int = 0
    """Packets to nodes that are not registered; who sent them is told."""

    dropped_slow_reader: int = 0
    """Packets to nodes whose WebSocket takes them too slowly."""

    @property
    def nodes(self) -> int:
        """Nodes that are registered now."""
        return self.udp_nodes + self.websocket_nodes

    @property
    def packets(self) -> int:
        """Packets forwarded."""
        return self.udp_packets + self.websocket_packets

    @property
    def bytes(self) -> int:
        """Bytes forwarded."""
        return self.udp_bytes + self.websocket_bytes

    @property
    def refused(self) -> int:
        """Registrations and WebSockets refused."""
        return self.refused_nodes + self.refused_nodes_per_address

    @property
    def dropped(self) -> int:
        """Packets that were not forwarded."""
        return (
            self.dropped_node_rate
            + self.dropped_total_rate
            + self.dropped_stranger
            + self.dropped_absent
            + self.dropped_slow_reader
        )
