from dataclasses import replace

import pytest
from routing_peers import NEAR, REQUEST, A, B, C, D, peer

from gridnode.core.announcements import Announcement
from gridnode.core.hop_costs import HopCosts, Links
from gridnode.core.ids import PeerId
from gridnode.core.routing import Hop, lowest_latency_route
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
