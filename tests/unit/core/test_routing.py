from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from random import Random
from types import MappingProxyType

import pytest
from routing_peers import MODEL, NEAR, REQUEST, A, B, C, D, peer

from gridnode.core.announcements import Announcement
from gridnode.core.hop_costs import HOP_OVERHEAD_S, HopCosts, Links, Pace, announced_links
from gridnode.core.ids import ModelId, PeerId
from gridnode.core.routing import (
    Hop,
    Route,
    RouteRequest,
    expected_step_s,
    lowest_latency_route,
)
from gridnode.core.spans import Span
from gridnode.errors import CacheFull, NoRoute


def hops(
    announcements: Iterable[Announcement],
    request: RouteRequest = REQUEST,
    links: Links = NEAR,
    paces: Mapping[PeerId, Pace] = MappingProxyType({}),
) -> list[Hop]:
    return list(lowest_latency_route(announcements, request, HopCosts(links=links, paces=paces)).hops)


def test_hops_follow_each_other_over_all_blocks() -> None:
    """A17."""
    found = hops([peer(C, 4, 6), peer(A, 0, 2), peer(B, 2, 4)])
    assert found == [Hop(A, Span(0, 2)), Hop(B, Span(2, 4)), Hop(C, Span(4, 6))]


def test_overlapping_spans_are_cut_where_it_is_fastest() -> None:
    found = hops([peer(A, 0, 4, block_s=0.010), peer(B, 2, 6, block_s=0.001)])
    assert found == [Hop(A, Span(0, 2)), Hop(B, Span(2, 6))]


def test_one_hop_is_better_than_two_of_the_same_speed() -> None:
    assert hops([peer(A, 0, 3), peer(B, 3, 6), peer(C, 0, 6)]) == [Hop(C, Span(0, 6))]


def test_a_far_peer_is_avoided_even_if_it_computes_faster() -> None:
    links = replace(NEAR, own={A: 0.2, B: 0.01})
    assert hops([peer(A, 0, 6, block_s=0.0001), peer(B, 0, 6)], links=links) == [Hop(B, Span(0, 6))]


def test_links_between_hops_count() -> None:
    links = Links(own=NEAR.own, between={(A, B): 0.5, (A, C): 0.01})
    found = hops([peer(A, 0, 3), peer(B, 3, 6), peer(C, 3, 6, block_s=0.01)], links=links)
    assert found == [Hop(A, Span(0, 3)), Hop(C, Span(3, 6))]


def test_avoided_peers_and_those_that_are_not_allowed_are_left_out() -> None:
    everyone = [peer(A, 0, 6), peer(B, 0, 6, block_s=0.002)]
    assert hops(everyone, replace(REQUEST, avoid=frozenset({A}))) == [Hop(B, Span(0, 6))]
    assert hops(everyone, replace(REQUEST, blocked=frozenset({A}))) == [Hop(B, Span(0, 6))]
    assert hops(everyone, replace(REQUEST, allowed=frozenset({B}))) == [Hop(B, Span(0, 6))]


def test_a_pinned_route_has_its_peers_in_their_order_however_slow() -> None:
    everyone = [peer(A, 0, 6), peer(B, 0, 6, block_s=0.5), peer(C, 0, 6, block_s=0.4), peer(D, 0, 6)]
    found = hops(everyone, replace(REQUEST, pinned=(C, B)))
    assert [hop.peer_id for hop in found] == [C, B]
    with pytest.raises(NoRoute, match="request allows"):
        hops([peer(A, 0, 6), peer(B, 0, 2)], replace(REQUEST, pinned=(A, B)))


def test_a_part_of_a_pinned_route_has_some_of_its_peers() -> None:
    everyone = [peer(A, 0, 2), peer(B, 2, 4), peer(C, 4, 6), peer(D, 0, 6)]
    pinned = replace(REQUEST, pinned=(A, B, C), part=Span(2, 6))
    assert hops(everyone, pinned) == [Hop(B, Span(2, 4)), Hop(C, Span(4, 6))]


def test_a_private_route_begins_and_ends_at_home_or_is_refused() -> None:
    everyone = [peer(A, 0, 6), peer(B, 0, 1, block_s=0.5), peer(C, 5, 6, block_s=0.5)]
    private = replace(REQUEST, home=frozenset({B, C}))
    assert hops(everyone, private) == [Hop(B, Span(0, 1)), Hop(A, Span(1, 5)), Hop(C, Span(5, 6))]
    with pytest.raises(NoRoute, match=r"blocks 0:1 of 0:6 .* that the request allows") as caught:
        hops(everyone, replace(private, home=frozenset({C})))
    assert caught.value.is_limited
    # What runs in the middle of the model has no ends to keep at home.
    assert hops(everyone, replace(private, part=Span(1, 5))) == [Hop(A, Span(1, 5))]


def test_no_peer_comes_twice_even_if_its_neighbour_is_faster() -> None:
    found = hops([peer(A, 0, 6, block_s=0.1), peer(B, 2, 4, block_s=0.001)])
    assert found == [Hop(A, Span(0, 6))]


def test_what_was_measured_counts_more_than_what_is_announced() -> None:
    everyone = [peer(A, 0, 6, block_s=0.001), peer(B, 0, 6, block_s=0.002)]
    assert hops(everyone) == [Hop(A, Span(0, 6))]
    assert hops(everyone, paces={A: Pace(0.004, 0.0)}) == [Hop(B, Span(0, 6))]
    assert hops(everyone, paces={A: Pace(0.001, 0.05)}) == [Hop(B, Span(0, 6))]


def test_a_queue_is_passed_by() -> None:
    free, busy = peer(B, 0, 6, block_s=0.002), peer(A, 0, 6)
    assert busy.serving is not None
    busy = replace(busy, serving=replace(busy.serving, queued_steps=3.0))
    assert hops([busy, free]) == [Hop(B, Span(0, 6))]


def test_other_weights_of_the_same_name_never_mix() -> None:
    fork = ModelId(MODEL.name, "b" * 64)
    with pytest.raises(NoRoute) as caught:
        hops([peer(A, 0, 3), peer(B, 3, 6, model=fork)])
    assert caught.value.gaps == ((3, 6),)


def test_who_announces_another_number_of_blocks_is_no_hop() -> None:
    stranger = peer(A, 0, 6)
    assert stranger.serving is not None
    stranger = replace(stranger, serving=replace(stranger.serving, num_blocks=9, decode_block_s=1e-6))
    assert hops([stranger, peer(B, 0, 6)]) == [Hop(B, Span(0, 6))]


def test_a_gap_is_named_with_what_to_run() -> None:
    with pytest.raises(NoRoute, match=r"blocks 2:4 of 0:6 .*--blocks 2:4") as caught:
        hops([peer(A, 0, 2), peer(B, 4, 6)])
    assert caught.value.gaps == ((2, 4),)


def test_a_missing_head_is_a_gap_at_the_last_block() -> None:
    headless = peer(A, 0, 6)
    assert headless.serving is not None
    with pytest.raises(NoRoute) as caught:
        hops([replace(headless, serving=replace(headless.serving, has_head=False))])
    assert caught.value.gaps == ((5, 6),)


def test_full_caches_are_refused_with_numbers() -> None:
    with pytest.raises(CacheFull) as caught:
        hops([peer(A, 0, 3, free=5), peer(B, 3, 6)])
    assert caught.value.wanted_tokens == 10
    assert caught.value.free_tokens == 5


def test_a_full_peer_is_passed_by() -> None:
    assert hops([peer(A, 0, 6, free=5), peer(B, 0, 6, block_s=0.5)]) == [Hop(B, Span(0, 6))]


def test_the_route_does_not_depend_on_the_order_of_announcements() -> None:
    everyone = [peer(A, 0, 6), peer(B, 0, 6), peer(C, 0, 3), peer(D, 3, 6)]
    assert hops(everyone) == hops(reversed(everyone))


def test_hops_that_do_not_join_are_no_route() -> None:
    with pytest.raises(ValueError, match="do not join"):
        Route((Hop(A, Span(0, 2)), Hop(B, Span(3, 6))))


def test_the_expected_time_of_a_step_is_links_overhead_and_compute() -> None:
    announcements = [peer(A, 0, 2, block_s=0.010), peer(B, 2, 6, block_s=0.001)]
    route = Route((Hop(A, Span(0, 2)), Hop(B, Span(2, 6))))
    three_ways_s, compute_s = 3 * 0.005, 2 * 0.010 + 4 * 0.001
    assert expected_step_s(route, announcements, HopCosts(links=NEAR)) == pytest.approx(
        three_ways_s + 2 * HOP_OVERHEAD_S + compute_s
    )


def compared_costs_s(
    announcements: list[Announcement], request: RouteRequest, costs: HopCosts
) -> tuple[float | None, float | None]:
    """Return what the route costs that is found, and what it costs if all paths are tried for each hop."""
    servings = {ann.peer_id: ann.serving for ann in announcements if ann.serving is not None}
    links = costs.links
    paths: dict[PeerId, tuple[float, frozenset[PeerId]]] = {}
    for block_index in request.span:
        holders = {key: serving for key, serving in servings.items() if block_index in serving.span}
        longer: dict[PeerId, tuple[float, frozenset[PeerId]]] = {}
        for key, serving in holders.items():
            if block_index == request.span.start:
                ways = [(costs.entry_s(None, key, serving), frozenset[PeerId]())]
                ways = ways if serving.has_embeddings else []
            else:
                ways = [
                    (cost_s + costs.entry_s(before, key, serving), visited)
                    for before, (cost_s, visited) in paths.items()
                    if key not in visited
                ]
                ways += [paths[key]] if key in paths else []
            if ways:
                cost_s, visited = min(ways, key=lambda way: way[0])
                longer[key] = (cost_s + costs.block_s(key, serving), visited | {key})
        paths = longer
    ends = [
        cost_s + links.one_way_s(key, None) for key, (cost_s, _) in paths.items() if servings[key].has_head
    ]
    try:
        found = lowest_latency_route(announcements, request, costs)
    except NoRoute:
        return None, min(ends, default=None)
    return expected_step_s(found, announcements, costs), min(ends, default=None)


@pytest.mark.parametrize("seed", range(300))
def test_no_path_that_is_left_out_would_have_been_cheaper(seed: int) -> None:
    random = Random(seed)
    everyone = []
    ids = [PeerId(bytes([n]) * 32) for n in range(1, random.randint(2, 12))]
    for peer_id in ids:
        start = random.randrange(6)
        end = random.randint(start + 1, 6)
        block_s = random.choice((0.001, 0.01, random.uniform(0.0001, 0.05)))
        everyone.append(peer(peer_id, start, end, block_s=block_s))
    pairs = [(x, y) for x in ids for y in ids if x != y and random.random() < 0.4]
    links = Links(
        own={peer_id: random.random() / 5 for peer_id in ids if random.random() < 0.7},
        between={pair: random.choice((0.0001, 0.3, random.random() / 5)) for pair in pairs},
    )
    found_s, least_s = compared_costs_s(everyone, REQUEST, HopCosts(links=links))
    assert found_s == pytest.approx(least_s)


def test_most_paths_of_a_large_swarm_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """However near some of its peers are to each other."""
    base = peer(A, 0, 6).serving
    assert base is not None
    ids = [PeerId(n.to_bytes(32, "big")) for n in range(1, 401)]
    everyone = [
        replace(
            peer(peer_id, 0, 6),
            rtts=tuple((ids[(n * 7 + k) % 400], 0.001 * k) for k in range(1, 33)),
            serving=replace(
                base,
                num_blocks=80,
                span=Span(start, start + 20),
                has_embeddings=start == 0,
                has_head=start == 60,
                decode_block_s=0.001 + 0.00001 * (n % 17),
            ),
        )
        for n, peer_id in enumerate(ids)
        for start in [n % 61]
    ]
    looks = Counter[str]()
    follows = RouteRequest.follows

    def counted(self: RouteRequest, before: PeerId, after: PeerId) -> bool:
        looks["paths"] += 1
        return follows(self, before, after)

    monkeypatch.setattr(RouteRequest, "follows", counted)
    costs = HopCosts(links=announced_links(everyone, {}))
    route = lowest_latency_route(everyone, replace(REQUEST, num_blocks=80), costs)
    assert route.hops[0].span.start == 0
    assert route.hops[-1].span.end == 80
    assert looks["paths"] < 100_000  # 100 paths for each of 100 holders of 80 blocks are 800 000


def test_a_large_swarm_is_routed() -> None:
    everyone = [
        replace(peer(PeerId(n.to_bytes(32, "big")), 0, 1), serving=serving)
        for n in range(300)
        for start in [n % 71]
        for base in [peer(A, 0, 6).serving]
        if base is not None
        for serving in [
            replace(
                base,
                num_blocks=80,
                span=Span(start, start + 10),
                has_embeddings=start == 0,
                has_head=start == 70,
            )
        ]
    ]
    route = lowest_latency_route(everyone, replace(REQUEST, num_blocks=80), HopCosts())
    assert len(route.hops) == 8
