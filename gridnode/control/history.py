"""What a node remembers of its swarm: records, and the interface that reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

# Samples are sums and peaks of this long: 288 points a day, one for every few pixels of a sparkline.
SAMPLE_S = 300
SAMPLES_SHOWN_S = 24 * 3600

ActivityKind = Literal["joined", "serving", "left", "lost", "failover", "refused", "engine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """Something that happened in the swarm, as this node saw it."""

    at: float
    """Seconds since 1970."""

    kind: ActivityKind
    peer_id: str
    """Whom it is about."""

    public_name: str
    text: str
    """What happened, for people. Without addresses: public monitors show it."""

    number: int = 0
    """Position in the history, from 1; newer ones have greater numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one peer did in `SAMPLE_S` seconds, as this node saw it."""

    at: float
    """Beginning, in seconds since 1970."""

    tokens: int = 0
    """Tokens of answers that went through it: all at this node, those asked for here at others."""

    sessions: int = 0
    """Most sessions open at once."""

    cache_use: float = 0.0
    """Most of its KV cache in use, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one peer computed, as this node knows."""

    peer_id: str
    public_name: str
    block_tokens: int
    """Tokens times blocks: everything served by this node, and what others did in answers asked for here."""

    first_at: float
    """First seen working, in seconds since 1970."""

    last_at: float


class History(Protocol):
    """Reads what a node remembers. Old records are forgotten; what is left survives restarts."""

    async def activity(
        self, *, before: int | None = None, limit: int = 50, peer_id: str = "", kind: str = ""
    ) -> tuple[Activity, ...]:
        """Return what happened, newest first, from the one before number `before` on.

        Args:
            peer_id: Only what is about this peer, if given.
            kind: Only what is of this kind, if given.
        """
        ...

    async def samples(self, peer_id: str) -> tuple[Sample, ...]:
        """Return the samples of a peer in the last 24 hours, oldest first; quiet times have none."""
        ...

    async def work(self) -> tuple[Work, ...]:
        """Return who computed how much, the most first."""
        ...
