"""Choosing the hops of a session: the shortest path over (block, peer)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from gridnode.core.announcements import Announcement, Serving
from gridnode.core.hop_costs import UNKNOWN_RTT_S, HopCosts
from gridnode.core.ids import ModelId, PeerId, short
from gridnode.core.spans import Span, gaps
from gridnode.errors import CacheFull, NoRoute


class Aim(StrEnum):
    """What a route is chosen for."""

    LATENCY = "latency"
    """One token after the other, as in an answer: the sum of all hops counts."""

    THROUGHPUT = "throughput"
    """Many tokens behind each other, as in scoring and training: the slowest hop counts."""


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

    adapter: str = ""
    """If not empty, the adapter that every hop must host."""

    avoid: frozenset[PeerId] = frozenset()
    """Peers not to use, because they failed this session."""

    blocked: frozenset[PeerId] = frozenset()
    """Peers that its owner does not want."""

    allowed: frozenset[PeerId] | None = None
    """The only peers to use; None allows all."""

    home: frozenset[PeerId] | None = None
    """The only peers that may compute the first and the last block of the model; None allows all."""

    pinned: tuple[PeerId, ...] = ()
    """If not empty, the peers of a route through the whole model in their order, each once. A route through
    a part of it has some of them, one behind the other."""

    @property
    def span(self) -> Span:
        """The blocks that the route covers."""
        return self.part or Span(0, self.num_blocks)

    @property
    def is_limited(self) -> bool:
        """Whether its owner wants some peers only."""
        is_among_some = self.allowed is not None or self.home is not None
        return is_among_some or bool(self.blocked or self.pinned or self.adapter)

    def allows(self, peer_id: PeerId) -> bool:
        """Return whether a peer may take part at all."""
        return (
            peer_id not in self.avoid
            and peer_id not in self.blocked
            and (self.allowed is None or peer_id in self.allowed)
            and (not self.pinned or peer_id in self.pinned)
        )

    def begins_at(self, peer_id: PeerId, serving: Serving) -> bool:
        """Return whether a route may begin at a peer that serves `serving`."""
        return (
            (self.part is not None or serving.has_embeddings)
            and (self.home is None or self.span.start > 0 or peer_id in self.home)
            and (not self.pinned or self.span.start > 0 or peer_id == self.pinned[0])
        )

    def ends_at(self, peer_id: PeerId, serving: Serving) -> bool:
        """Return whether a route may end there."""
        return (
            (self.part is not None or serving.has_head)
            and (self.home is None or self.span.end < self.num_blocks or peer_id in self.home)
            and (not self.pinned or self.span.end < self.num_blocks or peer_id == self.pinned[-1])
        )

    def follows(self, before: PeerId, after: PeerId) -> bool:
        """Return whether a route may go from one peer to another."""
        return not self.pinned or self.pinned.index(after) == self.pinned.index(before) + 1


@dataclass(frozen=True, slots=True)
class _Stretch:
    """The beginning of a hop, and those before it."""

    peer_id: PeerId
    start: int
    before: _Stretch | None
    visited: frozenset[PeerId]
    """Every peer up to here, this one included."""


class _Path(NamedTuple):
    """A cheapest way to have computed some blocks; its last peer computed the last of them."""

    cost_s: float
    last: _Stretch

    def hops(self, end: int) -> tuple[Hop, ...]:
        """Return the hops of this path, which has computed the blocks before `end`."""
        found: list[Hop] = []
        stretch: _Stretch | None = self.last
        while stretch is not None:
            found.append(Hop(stretch.peer_id, Span(stretch.start, end)))
            end, stretch = stretch.start, stretch.before
        return tuple(reversed(found))


def lowest_latency_route(
    announcements: Iterable[Announcement], request: RouteRequest, costs: HopCosts
) -> Route:
    """Return the route on which one token takes the least time.

    The cost of a route is the sum of its one-way links, of each hop's overhead and waiting, and of the
    compute of its blocks (Dijkstra's algorithm on a graph that is layered by block: one sweep suffices).

    Raises:
        NoRoute: some blocks are served by nobody that the request allows, or nobody holds the
            embeddings or the head.
        CacheFull: every block is served, but not with enough free KV cache.
    """
    allowed = allowed_servings(announcements, request)
    path = _cheapest(with_room(allowed, request), request, costs)
    if path is not None:
        return Route(path.hops(request.span.end))
    raise no_route(allowed, request, has_room_elsewhere=_cheapest(allowed, request, costs) is not None)


def expected_step_s(route: Route, announcements: Iterable[Announcement], costs: HopCosts) -> float:
    """Return what `lowest_latency_route` takes for the time of one token along `route`, there and back."""
    servings = {ann.peer_id: ann.serving for ann in announcements}
    total_s, before = 0.0, None
    for hop in route.hops:
        serving = servings.get(hop.peer_id)
        compute_s = costs.block_s(hop.peer_id, serving) * len(hop.span) if serving else 0.0
        total_s += costs.entry_s(before, hop.peer_id, serving) + compute_s
        before = hop.peer_id
    return total_s + costs.links.one_way_s(before, None)


def allowed_servings(announcements: Iterable[Announcement], request: RouteRequest) -> dict[PeerId, Serving]:
    """Return what may be used, in an order that does not depend on who asks."""
    return {
        ann.peer_id: ann.serving
        for ann in sorted(announcements, key=lambda ann: ann.peer_id)
        if ann.serving is not None
        and ann.serving.model == request.model
        and ann.serving.num_blocks == request.num_blocks
        and (not request.adapter or request.adapter in ann.serving.adapters)
        and request.allows(ann.peer_id)
    }


def with_room(servings: Mapping[PeerId, Serving], request: RouteRequest) -> dict[PeerId, Serving]:
    """Return those of `servings` that can lease what `request` needs."""
    return {key: s for key, s in servings.items() if _room(s) >= request.cache_tokens}


def no_route(
    allowed: Mapping[PeerId, Serving], request: RouteRequest, *, has_room_elsewhere: bool
) -> NoRoute | CacheFull:
    """Return why there is no route.

    Args:
        has_room_elsewhere: Whether there would be one for a session that needs no cache.
    """
    if has_room_elsewhere:
        return CacheFull(request.cache_tokens, _longest_session(allowed, request))
    missing = _missing(allowed, request)
    return NoRoute(request.model.name, request.num_blocks, missing, is_limited=request.is_limited)


def _room(serving: Serving) -> int:
    return min(serving.free_cache_tokens, serving.max_session_tokens)


def _longest_session(allowed: Mapping[PeerId, Serving], request: RouteRequest) -> int:
    """Return what the fullest block has room for: no route takes more, whatever other blocks have."""
    return min(
        max((_room(serving) for serving in allowed.values() if block_index in serving.span), default=0)
        for block_index in request.span
    )


def _missing(allowed: Mapping[PeerId, Serving], request: RouteRequest) -> tuple[tuple[int, int], ...]:
    """Return the blocks without a peer; all of them if each has one, but no order of peers is allowed."""
    span = request.span
    missing = [
        (max(gap.start, span.start), min(gap.end, span.end))
        for gap in gaps([s.span for s in allowed.values()], request.num_blocks)
        if gap.start < span.end and gap.end > span.start
    ]
    if missing:
        return tuple(missing)
    first, last = span.start, span.end - 1
    if not any(request.begins_at(key, s) and first in s.span for key, s in allowed.items()):
        missing.append((first, first + 1))
    if not any(request.ends_at(key, s) and last in s.span for key, s in allowed.items()):
        missing.append((last, last + 1))
    return tuple(dict.fromkeys(missing)) or ((span.start, span.end),)


def _cheapest(servings: Mapping[PeerId, Serving], request: RouteRequest, costs: HopCosts) -> _Path | None:
    span = request.span
    doors = _doors(servings, costs)
    paths = {
        door.peer_id: _Path(
            costs.links.one_way_s(None, door.peer_id) + door.arrival_s + door.block_s,
            _Stretch(door.peer_id, span.start, None, frozenset({door.peer_id})),
        )
        for door in doors
        if door.holds(span.start) and request.begins_at(door.peer_id, door.serving)
    }
    for block_index in range(span.start + 1, span.end):
        if not paths:
            return None
        by_cost = sorted(paths.values(), key=lambda path: path.cost_s)
        holders = [door for door in doors if door.holds(block_index)]
        longer = [_extend(paths, by_cost, door, block_index, request) for door in holders]
        paths = {path.last.peer_id: path for path in longer if path is not None}
    ends = [path for peer_id, path in paths.items() if request.ends_at(peer_id, servings[peer_id])]
    return min(ends, key=lambda p: p.cost_s + costs.links.one_way_s(p.last.peer_id, None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Door:
    """A peer that a path may come to, and what that costs whichever path it is."""

    peer_id: PeerId
    serving: Serving
    block_s: float
    arrival_s: float
    neighbours: Sequence[tuple[float, PeerId]]
    """One-way times from peers whose links are known, the least first."""

    known: frozenset[PeerId]
    """Those peers."""

    def holds(self, block_index: int) -> bool:
        return self.serving.span.start <= block_index < self.serving.span.end


def _doors(servings: Mapping[PeerId, Serving], costs: HopCosts) -> list[_Door]:
    neighbours = costs.links.known_neighbours(servings)
    return [
        _Door(
            peer_id=peer_id,
            serving=serving,
            block_s=costs.block_s(peer_id, serving),
            arrival_s=costs.arrival_s(peer_id, serving),
            neighbours=neighbours.get(peer_id, ()),
            known=frozenset(key for _, key in neighbours.get(peer_id, ())),
        )
        for peer_id, serving in servings.items()
    ]


def _extend(
    paths: Mapping[PeerId, _Path],
    by_cost: Sequence[_Path],
    door: _Door,
    block_index: int,
    request: RouteRequest,
) -> _Path | None:
    """Return the cheapest of `paths` followed by one block at `door`, if any may be.

    A peer computes one span of a session, so that no path comes back to one. Its span has no holes: whoever
    passed it by can still stay on it from its first block on, and no block becomes unreachable.

    Not every path is looked at, or a swarm of thousands would take minutes: of those whose link to the peer
    nobody knows only the cheapest matters, and those with known links only as long as they may be better.

    Args:
        by_cost: The same paths, the cheapest first.
    """

    def may_follow(path: _Path) -> bool:
        before = path.last
        return door.peer_id not in before.visited and request.follows(before.peer_id, door.peer_id)

    best = paths.get(door.peer_id)
    best = _over_unknown_link(by_cost, door, best.cost_s if best else math.inf, may_follow) or best
    best = (
        _over_known_link(paths, by_cost[0].cost_s, door, best.cost_s if best else math.inf, may_follow)
        or best
    )
    if best is None:
        return None
    last = best.last
    if last.peer_id != door.peer_id:
        last = _Stretch(door.peer_id, block_index, last, last.visited | {door.peer_id})
    return _Path(best.cost_s + door.block_s, last)


def _over_unknown_link(
    by_cost: Sequence[_Path], door: _Door, limit_s: float, may_follow: Callable[[_Path], bool]
) -> _Path | None:
    """Return the cheapest path to `door` over a link that nobody knows, if it costs less than `limit_s`."""
    for path in by_cost:
        cost_s = path.cost_s + UNKNOWN_RTT_S / 2 + door.arrival_s
        if cost_s >= limit_s:
            return None
        if path.last.peer_id not in door.known and may_follow(path):
            return _Path(cost_s, path.last)
    return None


def _over_known_link(
    paths: Mapping[PeerId, _Path],
    least_s: float,
    door: _Door,
    limit_s: float,
    may_follow: Callable[[_Path], bool],
) -> _Path | None:
    """Return the cheapest path to `door` over a known link, if it costs less than `limit_s`.

    Args:
        least_s: Cost of the cheapest of `paths`.
    """
    best: _Path | None = None
    for link_s, neighbour in door.neighbours:
        if least_s + link_s + door.arrival_s >= limit_s:
            break
        path = paths.get(neighbour)
        if path is not None and may_follow(path):
            cost_s = path.cost_s + link_s + door.arrival_s
            if cost_s < limit_s:
                best, limit_s = _Path(cost_s, path.last), cost_s
    return best
