"""The relay that a node is for others, in JSON and in words."""

from __future__ import annotations

from dataclasses import dataclass

from gridnode.net.relay_counters import RelayCounters
from gridnode.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedRelay:
    """A relay that serves others."""

    listen: str
    """Its UDP address; may be a wildcard."""

    has_websockets: bool
    """Whether nodes without UDP reach it by TCP."""

    max_nodes: int
    """Nodes that it takes at once."""

    counters: RelayCounters


def describe_traffic(counters: RelayCounters) -> str:
    """Return who is there and what passed, in one line."""
    by_websocket = f" ({counters.websocket_nodes} by WebSocket)" if counters.websocket_nodes else ""
    return (
        f"{_number(counters.nodes, 'node')}{by_websocket}, "
        f"{_number(counters.packets, 'packet')} and {format_bytes(counters.bytes)} forwarded"
    )


def describe_losses(counters: RelayCounters) -> str:
    """Return what did not pass, and which limit it met; empty if everything did."""
    dropped = [
        (counters.dropped_node_rate, "above the rate of one node"),
        (counters.dropped_total_rate, "above the rate of all nodes"),
        (counters.dropped_stranger, "from strangers"),
        (counters.dropped_absent, "to nodes that are not there"),
        (counters.dropped_slow_reader, "to nodes whose WebSocket is too slow"),
    ]
    refused = [
        (counters.refused_nodes, "above the number of nodes"),
        (counters.refused_nodes_per_address, "above that of one address"),
    ]
    parts = []
    if counters.dropped:
        parts.append(f"{_number(counters.dropped, 'packet')} dropped: {_listed(dropped)}")
    if counters.refused:
        parts.append(f"{_number(counters.refused, 'registration')} refused: {_listed(refused)}")
    return "; ".join(parts)


def _listed(counts: list[tuple[int, str]]) -> str:
    return ", ".join(f"{count} {why}" for count, why in counts if count)


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
