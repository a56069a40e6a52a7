"""Choosing the hops of a session: the shortest path over (block, peer)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gridnode.core.announcements import Announcement, Serving
from gridnode.core.ids import ModelId, PeerId, short
from gridnode.core.spans import Span, gaps
from gridnode.errors import CacheFull, NoRoute

# A link that nobody measured: slower than a LAN, faster than another continent.
UNKNOWN_RTT_S = 0.1
# Framing, queueing and copying of one hop, from benchmarks/hop.py: keeps routes from splitting for nothing.
HOP_OVERHEAD_S = 0.002


@dataclass(frozen=True, slots=True)
class Hop:
    """One peer together with the span it computes for a session."""

    peer_id: PeerId
    span: Span

    def __str__(self) -> str:
        return f"{short(self.peer_id)} {self.span}"


@dataclass(frozen=True, slots=True)
class Route:
    """The hops that together cover a model, in order."""

    hops: tuple[Hop, ...]

    def __post_init__(self) -> None:
        for before, after in zip(self.hops, self.hops[1:], strict=False):
            if before.span.end != after.span.start:
                raise ValueError(f"hops do not join: {before.span} and {after.span}")

    def __str__(self) -> str:
        return " > ".join(map(str, self.hops))


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRequest:
    """What a session needs of its route."""

    model: ModelId
    num_blocks: int
    cache_tokens: int
    """Tokens to lease at every hop."""

    part: Span | None = None
    """Blocks to run on hidden states; None is the whole model, from token ids to logits."""

    avoid: frozenset[PeerId] = frozenset()
    """Peers that failed this session."""

    pinned: tuple[PeerId, ...] = ()
    """If not empty, the only peers to use."""

    @property
    def span(self) -> Span:
        """The blocks that the route covers."""
        return self.part or Span(0, self.num_blocks)

    def begins_at(self, serving: Serving) -> bool:
        """Return whether a route may begin at a peer that serves `serving`."""
        return self.part is not None or serving.has_embeddings

    def ends_at(self, serving: Serving) -> bool:
        """Return whether a route may end there."""
        return self.part is not None or serving.has_head


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


def announced_links(announcements: Iterable[Announcement], own: Mapping[PeerId, float]) -> Links:
    """Return the links that `announcements` and our own measurements tell of."""
    between = {(ann.peer_id, target): rtt_s for ann in announcements for target, rtt_s in ann.rtts}
    return Links(own=own, between=between)


@dataclass(frozen=True, slots=True)
class _Path:
    """A cheapest way to have computed some blocks; its last peer computed the last of them."""

    cost_s: float
    peer_id: PeerId
    hops: tuple[Hop, ...]

    def then(self, peer_id: PeerId, block_index: int, cost_s: float) -> _Path:
        """Return this path with one more block at its end."""
        last = self.hops[-1]
        if last.peer_id == peer_id:
            hops = (*self.hops[:-1], Hop(peer_id, Span(last.span.start, block_index + 1)))
        else:
            hops = (*self.hops, Hop(peer_id, Span(block_index, block_index + 1)))
        return _Path(cost_s, peer_id, hops)


def lowest_latency_route(announcements: Iterable[Announcement], request: RouteRequest, links: Links) -> Route:
    """Return the route on which one token takes the least time.

    The cost of a route is the sum of its one-way links, of each hop's overhead and of the compute of
    its blocks (Dijkstra's algorithm on a graph that is layered by block: one sweep suffices).

    Raises:
        NoRoute: some blocks are served by nobody that the request allows, or nobody holds the
            embeddings or the head.
        CacheFull: every block is served, but not with enough free KV cache.
    """
    allowed = _allowed(announcements, request)
    roomy = {key: s for key, s in allowed.items() if _room(s) >= request.cache_tokens}
    path = _cheapest(roomy, request, links)
    if path is not None:
        return Route(path.hops)
    if _cheapest(allowed, request, links) is not None:
        raise CacheFull(request.cache_tokens, _longest_session(allowed, request.num_blocks))
    raise NoRoute(request.model.name, request.num_blocks, _missing(allowed, request))


def expected_step_s(route: Route, announcements: Iterable[Announcement], links: Links) -> float:
    """Return what `lowest_latency_route` takes for the time of one token along `route`, there and back."""
    servings = {ann.peer_id: ann.serving for ann in announcements}
    total_s, before = 0.0, None
    for hop in route.hops:
        serving = servings[hop.peer_id]
        compute_s = serving.decode_block_s * len(hop.span) if serving else 0.0
        total_s += links.one_way_s(before, hop.peer_id) + HOP_OVERHEAD_S + compute_s
        before = hop.peer_id
    return total_s + links.one_way_s(before, None)


def _allowed(announcements: Iterable[Announcement], request: RouteRequest) -> dict[PeerId, Serving]:
    """Return what may be used, in an order that does not depend on who asks."""
    return {
        ann.peer_id: ann.serving
        for ann in sorted(announcements, key=lambda ann: ann.peer_id)
        if ann.serving is not None
        and ann.serving.model == request.model
        and ann.peer_id not in request.avoid
        and (not request.pinned or ann.peer_id in request.pinned)
    }


def _room(serving: Serving) -> int:
    return min(serving.free_cache_tokens, serving.max_session_tokens)


def _longest_session(allowed: Mapping[PeerId, Serving], num_blocks: int) -> int:
    """Return what the fullest block has room for: no route takes more, whatever other blocks have."""
    return min(
        max(_room(serving) for serving in allowed.values() if block_index in serving.span)
        for block_index in range(num_blocks)
    )


def _missing(allowed: Mapping[PeerId, Serving], request: RouteRequest) -> tuple[tuple[int, int], ...]:
    span = request.span
    spans = [s.span for s in allowed.values()]
    missing = [
        (max(gap.start, span.start), min(gap.end, span.end))
        for gap in gaps(spans, request.num_blocks)
        if gap.start < span.end and gap.end > span.start
    ]
    last = span.end - 1
    if not missing and not any(request.begins_at(s) and span.start in s.span for s in allowed.values()):
        missing.append((span.start, span.start + 1))
    if not missing and not any(request.ends_at(s) and last in s.span for s in allowed.values()):
        missing.append((last, last + 1))
    return tuple(missing)


def _cheapest(servings: Mapping[PeerId, Serving], request: RouteRequest, links: Links) -> _Path | None:
    paths: list[_Path] = []
    for block_index in request.span:
        holders = {key: s for key, s in servings.items() if block_index in s.span}
        if block_index == request.span.start:
            paths = [
                _Path(
                    links.one_way_s(None, key) + HOP_OVERHEAD_S + s.decode_block_s,
                    key,
                    (Hop(key, Span(block_index, block_index + 1)),),
                )
                for key, s in holders.items()
                if request.begins_at(s)
            ]
        else:
            paths = (
                [_extend(paths, key, s, block_index, links) for key, s in holders.items()] if paths else []
            )
        if not paths:
            return None
    ends = [path for path in paths if request.ends_at(servings[path.peer_id])]
    return min(ends, key=lambda p: p.cost_s + links.one_way_s(p.peer_id, None), default=None)


def _extend(paths: list[_Path], peer_id: PeerId, serving: Serving, block_index: int, links: Links) -> _Path:
    """Return the cheapest of `paths` followed by one block at `peer_id`."""

    def cost_s(path: _Path) -> float:
        moved = path.peer_id != peer_id
        return path.cost_s + (links.one_way_s(path.peer_id, peer_id) + HOP_OVERHEAD_S if moved else 0.0)

    best = min(paths, key=cost_s)
    return best.then(peer_id, block_index, cost_s(best) + serving.decode_block_s)
