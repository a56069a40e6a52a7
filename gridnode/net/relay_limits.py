"""What a relay does for one node, for one address, and for all. Pure: the time is an argument."""

from __future__ import annotations

from dataclasses import dataclass

from gridnode.units import MIB

# Bytes per second that relays of people with an ordinary line can spare for one node.
DEFAULT_NODE_BYTES_PER_S = 2 * MIB
# Seconds of that rate that may come at once: a prompt of a thousand tokens.
BURST_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLimits:
    """How much a relay gives."""

    node_bytes_per_s: int = DEFAULT_NODE_BYTES_PER_S
    """For what one node sends; bursts of two seconds' worth are fine, more is dropped."""

    total_bytes_per_s: int = 100 * MIB
    """For what all nodes send: about a gigabit per second."""

    nodes: int = 1024
    """Registered at once. Each costs about 100 kB, most of it its QUIC connection."""

    nodes_per_address: int = 16
    """Registered from one address, or one /64 network of IPv6: a home, or a small office."""

    def __post_init__(self) -> None:
        for name in ("node_bytes_per_s", "total_bytes_per_s", "nodes", "nodes_per_address"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class ByteBucket:
    """Allows bytes at a rate, and bursts of `BURST_S` seconds' worth."""

    __slots__ = ("_capacity", "_level", "_rate_bytes_per_s", "_updated_at")

    def __init__(self, rate_bytes_per_s: int, *, now: float) -> None:
        self._rate_bytes_per_s = rate_bytes_per_s
        self._capacity = rate_bytes_per_s * BURST_S
        self._level = self._capacity
        self._updated_at = now

    def take(self, size_bytes: int, *, now: float) -> bool:
        """Return whether `size_bytes` more are allowed, and count them if so."""
        elapsed_s = max(0.0, now - self._updated_at)
        self._level = min(self._capacity, self._level + elapsed_s * self._rate_bytes_per_s)
        self._updated_at = max(now, self._updated_at)
        if self._level < size_bytes:
            return False
        self._level -= size_bytes
        return True
