"""Where nodes and links lie in the picture of the swarm. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from gridnode.control.status_schema import PeerStatus

WIDTH = 960
# Two nodes side by side, also on a phone.
PAIR_WIDTH = 380
# Two neighbours make a line, twenty an ellipse that needs its height.
_HEIGHTS = ((2, 190), (5, 320), (10, 400))
MAX_HEIGHT = 460
# More nodes than this make a knot, not a picture; the nearest are shown.
MAX_NODES = 18
# Links between others, behind those of this node; the quickest are shown.
MAX_FAR_LINKS = 24
# Room for names beside and below the outermost nodes.
_MARGINS = (100.0, 65.0)
_STEPS = 720


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A node in the picture."""

    peer: PeerStatus
    x: float
    y: float
    used: int
    """Share of its KV cache in use, in percent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A link in the picture."""

    x1: float
    y1: float
    x2: float
    y2: float
    kind: str
    """How packets go: the path of a link of this node, or `far` between others."""

    rtt_s: float | None
    label_x: float
    label_y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The picture of a swarm from the place of one node."""

    places: tuple[Place, ...]
    near: tuple[Line, ...]
    """Links of this node."""

    far: tuple[Line, ...]
    route: str
    """Points of the line along the route of the next session, as SVG wants them."""

    num_hidden: int
    """Nodes without a place."""

    height: int
    width: int


def cache_use(peer: PeerStatus) -> int | None:
    """Return the percentage of a peer's KV cache in use, or None if it does not tell."""
    serving = peer.serving
    if serving is None or not serving.total_cache_tokens:
        return None
    used = 1 - serving.free_cache_tokens / serving.total_cache_tokens
    return round(100 * min(1.0, max(0.0, used)))


def draw(peers: Sequence[PeerStatus], route: Sequence[str]) -> Topology:
    """Return the picture: this node in the middle, the others around it by their blocks; one other beside it.

    Args:
        route: Full ids of the hops of the route to show.
    """
    shown = _shown(peers, route)
    around = [peer for peer in shown if not peer.is_self]
    height = next((height for most, height in _HEIGHTS if len(around) <= most), MAX_HEIGHT)
    is_pair = len(around) == 1
    home_x = PAIR_WIDTH - _MARGINS[0] if is_pair else WIDTH / 2
    places = [
        Place(peer=peer, x=home_x, y=height / 2, used=cache_use(peer) or 0) for peer in shown if peer.is_self
    ]
    for peer, (x, y) in zip(around, _ellipse(len(around), height), strict=True):
        places.append(Place(peer=peer, x=x, y=y, used=cache_use(peer) or 0))
    by_id = {place.peer.peer_id: place for place in places}
    home = next((place for place in places if place.peer.is_self), None)
    hops = [by_id[peer_id] for peer_id in route if peer_id in by_id]
    way = [*([home] if home else []), *hops]
    return Topology(
        places=tuple(places),
        near=tuple(_line(home, p, p.peer.path, p.peer.rtt_s) for p in places if home and p is not home),
        far=tuple(_far_links(places, by_id)),
        route=" ".join(f"{place.x:g},{place.y:g}" for place in way) if len(set(map(id, way))) > 1 else "",
        num_hidden=len(peers) - len(shown),
        height=height,
        width=PAIR_WIDTH if is_pair else WIDTH,
    )


def _ellipse(count: int, height: int) -> list[tuple[float, float]]:
    """Return `count` points at equal distances, from the left over the top, as a clock goes."""
    radius_x, radius_y = WIDTH / 2 - _MARGINS[0], height / 2 - _MARGINS[1]
    angles = [math.pi + 2 * math.pi * step / _STEPS for step in range(_STEPS + 1)]
    outline = [
        (WIDTH / 2 + radius_x * math.cos(angle), height / 2 + radius_y * math.sin(angle)) for angle in angles
    ]
    passed = [0.0, *accumulate(math.dist(a, b) for a, b in pairwise(outline))]
    found = []
    for i in range(count):
        x, y = outline[bisect_left(passed, passed[-1] * i / count)]
        found.append((round(x, 1), round(y, 1)))
    return found


def _shown(peers: Sequence[PeerStatus], route: Sequence[str]) -> list[PeerStatus]:
    """Return this node, the hops of the route and the nearest others, by their blocks."""
    hops = frozenset(route)

    def nearness(peer: PeerStatus) -> tuple[bool, bool, bool, float]:
        rtt_s = peer.rtt_s
        return (not peer.is_self, peer.peer_id not in hops, rtt_s is None, rtt_s or 0.0)

    def order(peer: PeerStatus) -> tuple[int, str]:
        return (peer.serving.start if peer.serving else 1 << 20, peer.short)

    return sorted(sorted(peers, key=nearness)[:MAX_NODES], key=order)


def _far_links(places: Sequence[Place], by_id: dict[str, Place]) -> list[Line]:
    quickest: dict[frozenset[str], tuple[float, Place, Place]] = {}
    for place in places:
        for link in place.peer.links:
            other = by_id.get(link.peer_id)
            if other is None or other is place or place.peer.is_self or other.peer.is_self:
                continue
            ends = frozenset((place.peer.peer_id, other.peer.peer_id))
            if ends not in quickest or link.rtt_s < quickest[ends][0]:
                quickest[ends] = (link.rtt_s, place, other)
    ordered = sorted(quickest.values(), key=lambda found: found[0])[:MAX_FAR_LINKS]
    return [_line(place, other, "far", rtt_s) for rtt_s, place, other in ordered]


def _line(start: Place, end: Place, kind: str, rtt_s: float | None) -> Line:
    # The label stands nearer to the far end, where lines of one node are apart.
    return Line(
        x1=start.x,
        y1=start.y,
        x2=end.x,
        y2=end.y,
        kind=kind,
        rtt_s=rtt_s,
        label_x=round(start.x + 0.56 * (end.x - start.x), 1),
        label_y=round(start.y + 0.56 * (end.y - start.y), 1),
    )
