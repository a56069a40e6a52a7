"""Parts of a node's status that commands print with `--json`. Fields are added, never renamed."""

from __future__ import annotations

from dataclasses import dataclass

from gridnode.control.status_schema import (
    EngineStatus,
    ModelStatus,
    NodeStatus,
    PeerStatus,
    ServingStatus,
    SessionStatus,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """`peers`."""

    peers: tuple[PeerStatus, ...]
    """The node that answers first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """`models`."""

    models: tuple[ModelStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """`ps`."""

    engine: EngineStatus
    serving: ServingStatus | None
    """Null if the node serves no blocks."""

    sessions: tuple[SessionStatus, ...]
    total_cache_tokens: int
    uptime_s: float


def loaded_of(status: NodeStatus) -> Loaded:
    """Return what the node that told `status` has loaded."""
    return Loaded(
        engine=status.engine,
        serving=status.peers[0].serving if status.peers and status.peers[0].is_self else None,
        sessions=status.sessions,
        total_cache_tokens=status.total_cache_tokens,
        uptime_s=status.uptime_s,
    )
