"""Choosing the hops of a batch: the route whose slowest hop is the fastest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations_with_replacement

from gridnode.core.announcements import Announcement, Serving
from gridnode.core.hop_costs import HopCosts
from gridnode.core.ids import PeerId
from gridnode.core.routing import Hop, Route, RouteRequest, allowed_servings, no_route, with_room
from gridnode.core.spans import Span

# Halvings of the interval in which the best bottleneck lies: closer than any measurement.
_HALVINGS = 12


def highest_throughput_route(
    announcements: Iterable[Announcement], request: RouteRequest, costs: HopCosts
) -> Route:
    """Return the route through which the most tokens per second can flow: its slowest hop decides.

    For a given time per token and hop, it is best to go as far as possible at every hop; whether that
    reaches the end is found by one walk, and the least time for which it does by bisection.

    Raises:
        NoRoute, CacheFull: as `lowest_latency_route`.
    """
    allowed = allowed_servings(announcements, request)
    roomy = with_room(allowed, request)
    hops = _walk(roomy, request, costs, math.inf)
    if hops is None:
        raise no_route(
            allowed, request, has_room_elsewhere=_walk(allowed, request, costs, math.inf) is not None
        )
    low_s, high_s = 0.0, _bottleneck_s(hops, roomy, costs)
    for _ in range(_HALVINGS):
        middle_s = (low_s + high_s) / 2
        better = _walk(roomy, request, costs, middle_s)
        if better is None:
            low_s = middle_s
        else:
            hops, high_s = better, min(middle_s, _bottleneck_s(better, roomy, costs))
    return Route(hops)


def _walk(
    servings: Mapping[PeerId, Serving], request: RouteRequest, costs: HopCosts, limit_s: float
) -> tuple[Hop, ...] | None:
    """Return hops of which none takes more than `limit_s` for a token, or None if there are none."""
    if request.pinned:
        routes = (_along(run, servings, request, costs, limit_s) for run in _runs(servings, request))
        return next((hops for hops in routes if hops is not None), None)
    span = request.span
    hops: list[Hop] = []
    while not hops or hops[-1].span.end < span.end:
        start = hops[-1].span.end if hops else span.start
        reached = {
            key: _reach(key, serving, start, request, costs, limit_s)
            for key, serving in servings.items()
            if _may_follow(hops, key, serving, request)
        }
        # Of those that reach the same block, the one with the most time to spare.
        best = max(
            reached,
            key=lambda key: (reached[key], -costs.busy_block_s(key, servings[key]), -len(servings[key].span)),
            default=None,
        )
        if best is None or reached[best] <= start:
            return None
        hops.append(Hop(best, Span(start, reached[best])))
    return tuple(hops)


def _may_follow(hops: list[Hop], peer_id: PeerId, serving: Serving, request: RouteRequest) -> bool:
    if not hops:
        return request.begins_at(peer_id, serving)
    # A hop computes one span of a session: a peer does not come twice.
    return all(hop.peer_id != peer_id for hop in hops)


def _reach(
    peer_id: PeerId, serving: Serving, start: int, request: RouteRequest, costs: HopCosts, limit_s: float
) -> int:
    """Return up to which block `peer_id` computes from `start` on within `limit_s`."""
    if start not in serving.span:
        return start
    end = min(serving.span.end, request.span.end)
    if math.isfinite(limit_s):
        end = min(end, start + int(limit_s / costs.busy_block_s(peer_id, serving)))
    if end == request.span.end and not request.ends_at(peer_id, serving):
        end -= 1
    return end


def _runs(servings: Mapping[PeerId, Serving], request: RouteRequest) -> Iterator[tuple[PeerId, ...]]:
    """Yield what a route may be of the pinned peers: all of them, or some one behind the other for a part."""
    pinned, span = request.pinned, request.span
    for first, last in combinations_with_replacement(range(len(pinned)), 2):
        run = pinned[first : last + 1]
        if not all(peer_id in servings for peer_id in run):
            continue
        begin, end = servings[run[0]], servings[run[-1]]
        if (
            span.start in begin.span
            and span.end - 1 in end.span
            and request.begins_at(run[0], begin)
            and request.ends_at(run[-1], end)
        ):
            yield run


def _along(
    run: tuple[PeerId, ...],
    servings: Mapping[PeerId, Serving],
    request: RouteRequest,
    costs: HopCosts,
    limit_s: float,
) -> tuple[Hop, ...] | None:
    """Return hops at every peer of `run`, each within `limit_s`, or None if there are none.

    Each goes as far as it can, but leaves a block to everyone behind it.
    """
    ends: list[int] = []
    end = request.span.end
    for peer_id in reversed(run):
        ends.append(min(end, servings[peer_id].span.end))
        end = ends[-1] - 1
    hops: list[Hop] = []
    start = request.span.start
    for peer_id, end in zip(run, reversed(ends), strict=True):
        serving = servings[peer_id]
        reached = min(end, _reach(peer_id, serving, start, request, costs, limit_s))
        if reached <= start:
            return None
        hops.append(Hop(peer_id, Span(start, reached)))
        start = reached
    return tuple(hops) if start == request.span.end else None


def _bottleneck_s(hops: tuple[Hop, ...], servings: Mapping[PeerId, Serving], costs: HopCosts) -> float:
    return max(costs.busy_block_s(hop.peer_id, servings[hop.peer_id]) * len(hop.span) for hop in hops)
