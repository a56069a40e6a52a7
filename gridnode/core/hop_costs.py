"""What a hop of a route costs in time: its links, its speed and its queue, measured or announced."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from gridnode.core.announcements import Announcement, Serving
from gridnode.core.ids import PeerId

# A link that nobody measured: slower than a LAN, faster than another continent.
UNKNOWN_RTT_S = 0.1
# Framing, queueing and copying of one hop, from benchmarks/hop.py: keeps routes from splitting for nothing.
HOP_OVERHEAD_S = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Known round-trip times in seconds. `own` are those of the client of the session."""

    own: Mapping[PeerId, float] = field(default_factory=dict)
    between: Mapping[tuple[PeerId, PeerId], float] = field(default_factory=dict)

    def one_way_s(self, source: PeerId | None, target: PeerId | None) -> float:
        """Return half the round-trip time; None stands for the client."""
        if source is None or target is None:
            peer_id = source or target
            return self.own.get(peer_id, UNKNOWN_RTT_S) / 2 if peer_id is not None else 0.0
        known = self.between.get((source, target), self.between.get((target, source)))
        return (UNKNOWN_RTT_S if known is None else known) / 2

    def known_neighbours(self, among: Container[PeerId]) -> dict[PeerId, list[tuple[float, PeerId]]]:
        """Return for each of the peers `among` one-way times from those to which its link is known.

        The least come first. Together they are twice as many as all peers announce, at most.
        """
        pairs = {pair for pair in self.between if pair[0] in among and pair[1] in among}
        pairs |= {(target, source) for source, target in pairs}
        found: dict[PeerId, list[tuple[float, PeerId]]] = {}
        for source, target in pairs:
            found.setdefault(target, []).append((self.one_way_s(source, target), source))
        return {target: sorted(links) for target, links in found.items()}


def announced_links(announcements: Iterable[Announcement], own: Mapping[PeerId, float]) -> Links:
    """Return the links that `announcements` and our own measurements tell of."""
    between = {(ann.peer_id, target): rtt_s for ann in announcements for target, rtt_s in ann.rtts}
    return Links(own=own, between=between)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a peer was in our own sessions, lately."""

    block_s: float
    """Seconds of one decode step through one block."""

    wait_s: float
    """Seconds that a step spent there beside: in the queue, and what nobody accounts for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HopCosts:
    """What is known of the hops that a route may have. What we measured counts more than what peers say."""

    links: Links = field(default_factory=Links)
    paces: Mapping[PeerId, Pace] = field(default_factory=dict)
    own_sessions: Mapping[PeerId, int] = field(default_factory=dict)
    """Sessions of this client that run at a peer now: its next announcement will count them."""

    def block_s(self, peer_id: PeerId, serving: Serving) -> float:
        """Return the seconds of one decode step through one block."""
        pace = self.paces.get(peer_id)
        return pace.block_s if pace else serving.decode_block_s

    def entry_s(self, before: PeerId | None, peer_id: PeerId, serving: Serving | None) -> float:
        """Return what a step costs before its first block: the link from `before`, overhead and waiting."""
        return self.links.one_way_s(before, peer_id) + self.arrival_s(peer_id, serving)

    def arrival_s(self, peer_id: PeerId, serving: Serving | None) -> float:
        """Return what a step costs before its first block wherever it comes from: overhead and waiting."""
        pace = self.paces.get(peer_id)
        wait_s = 0.0
        if pace is not None:
            wait_s = pace.wait_s
        elif serving is not None:
            wait_s = serving.queued_steps * serving.decode_block_s * len(serving.span)
        return HOP_OVERHEAD_S + wait_s

    def busy_block_s(self, peer_id: PeerId, serving: Serving) -> float:
        """Return the seconds of one token through one block if the peer shares its time with its queue."""
        queue = serving.queued_steps + self.own_sessions.get(peer_id, 0)
        return self.block_s(peer_id, serving) * (1.0 + queue)
