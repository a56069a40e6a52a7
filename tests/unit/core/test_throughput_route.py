from dataclasses import replace
from random import Random

import pytest
from routing_peers import NEAR, REQUEST, A, B, C, D, peer

from gridnode.core.announcements import Announcement
from gridnode.core.hop_costs import HopCosts, Links
from gridnode.core.ids import PeerId
from gridnode.core.routing import Hop, Route, lowest_latency_route
from gridnode.core.spans import Span
from gridnode.core.throughput_route import highest_throughput_route
from gridnode.errors import CacheFull, NoRoute

COSTS = HopCosts(links=NEAR)


def hops(announcements: list[Announcement], costs: HopCosts = COSTS, **wishes: object) -> list[Hop]:
    request = replace(REQUEST, **wishes)  # type: ignore[arg-type]
    return list(highest_throughput_route(announcements, request, costs).hops)


def test_batches_go_through_three_hops_where_an_answer_goes_through_one() -> None:
    thirds = [peer(A, 0, 2), peer(B, 2, 4), peer(C, 4, 6)]
    whole = peer(D, 0, 6)
    far = HopCosts(links=Links(own=dict.fromkeys((A, B, C, D), 0.2)))
    assert hops([*thirds, whole], far) == [Hop(A, Span(0, 2)), Hop(B, Span(2, 4)), Hop(C, Span(4, 6))]
    assert lowest_latency_route([*thirds, whole], REQUEST, far).hops == (Hop(D, Span(0, 6)),)


def test_overlapping_spans_are_cut_so_that_all_take_as_long() -> None:
    slow, fast = peer(A, 0, 5, block_s=0.004), peer(B, 1, 6, block_s=0.002)
    assert hops([slow, fast]) == [Hop(A, Span(0, 2)), Hop(B, Span(2, 6))]


def test_rows_spread_over_replicas() -> None:
    everyone = [peer(A, 0, 6), peer(B, 0, 6), peer(C, 0, 6)]
    taken: dict[PeerId, int] = {}
    for _ in range(6):
        [hop] = hops(everyone, HopCosts(own_sessions=dict(taken)), part=Span(2, 3))
        taken[hop.peer_id] = taken.get(hop.peer_id, 0) + 1
    assert taken == {A: 2, B: 2, C: 2}


def test_wishes_and_full_caches_are_respected() -> None:
    everyone = [peer(A, 0, 6), peer(B, 0, 3, block_s=0.1), peer(C, 3, 6, block_s=0.1, free=5)]
    assert hops(everyone, avoid=frozenset({A}), cache_tokens=5) == [Hop(B, Span(0, 3)), Hop(C, Span(3, 6))]
    with pytest.raises(CacheFull):
        hops(everyone, avoid=frozenset({A}))
    with pytest.raises(NoRoute):
        hops(everyone, home=frozenset({B}))
    at_home = hops(everyone, home=frozenset({B, C}), cache_tokens=5)
    assert (at_home[0].peer_id, at_home[-1].peer_id) == (B, C)
    pinned = hops(everyone, pinned=(B, A))
    assert [hop.peer_id for hop in pinned] == [B, A]


def of_ten_blocks(peer_id: PeerId, start: int, end: int, *, block_s: float = 0.001) -> Announcement:
    made = peer(peer_id, 0, 1, block_s=block_s)
    assert made.serving is not None
    span = Span(start, end)
    serving = replace(made.serving, num_blocks=10, span=span, has_embeddings=start == 0, has_head=end == 10)
    return replace(made, serving=serving)


def test_pinned_peers_leave_blocks_to_those_behind_them() -> None:
    everyone = [of_ten_blocks(A, 0, 8), of_ten_blocks(B, 3, 6), of_ten_blocks(C, 5, 10)]
    found = hops(everyone, pinned=(A, B, C), num_blocks=10)
    assert [hop.peer_id for hop in found] == [A, B, C]
    assert max(len(hop.span) for hop in found) == 4
    part = hops(everyone, pinned=(A, B, C), num_blocks=10, part=Span(4, 9))
    assert (part[0].span.start, part[-1].span.end) == (4, 9)


@pytest.mark.parametrize("seed", range(300))
def test_a_pinned_route_is_found_wherever_an_answer_finds_one(seed: int) -> None:
    random = Random(seed)
    everyone = []
    for peer_id in (A, B, C, D):
        start = random.randrange(10) if peer_id != A else 0
        end = random.randint(start + 1, 10) if peer_id != D else 10
        everyone.append(of_ten_blocks(peer_id, start, end, block_s=random.uniform(0.001, 0.01)))
    part = None
    if random.random() < 0.5:
        start = random.randrange(10)
        part = Span(start, random.randint(start + 1, 10))
    request = replace(REQUEST, num_blocks=10, pinned=(A, B, C, D), part=part)
    routes = []
    for choose in (lowest_latency_route, highest_throughput_route):
        try:
            routes.append(choose(everyone, request, COSTS))
        except NoRoute:
            routes.append(None)
    latency, throughput = routes
    assert (latency is None) == (throughput is None)
    if latency is not None and throughput is not None:
        servings = {ann.peer_id: ann.serving for ann in everyone}

        def slowest_s(route: Route) -> float:
            return max(
                COSTS.busy_block_s(hop.peer_id, serving) * len(hop.span)
                for hop in route.hops
                if (serving := servings[hop.peer_id])
            )

        assert all(hop.span in s.span for hop in throughput.hops if (s := servings[hop.peer_id]))
        assert slowest_s(throughput) <= slowest_s(latency) * 1.01


def test_a_large_swarm_is_routed_in_milliseconds() -> None:
    everyone = [
        replace(
            peer(PeerId(number.to_bytes(32, "big")), 0, 6),
            serving=replace(
                base,
                num_blocks=126,
                span=Span(start, start + 9),
                has_embeddings=start == 0,
                has_head=start == 117,
            ),
        )
        for number in range(500)
        for start in [number % 118]
        for base in [peer(A, 0, 6).serving]
        if base is not None
    ]
    found = hops(everyone, HopCosts(), num_blocks=126)
    assert found[0].span.start == 0
    assert found[-1].span.end == 126
