from collections.abc import Iterable
from dataclasses import replace

import pytest

from gridnode.core.announcements import Announcement, PeerState, Serving
from gridnode.core.ids import ModelId, PeerId
from gridnode.core.models import QuantFormat
from gridnode.core.routing import (
    HOP_OVERHEAD_S,
    Hop,
    Links,
    Route,
    RouteRequest,
    announced_links,
    expected_step_s,
    lowest_latency_route,
)
from gridnode.core.spans import Span
from gridnode.errors import CacheFull, NoRoute

MODEL = ModelId("tiny", "a" * 64)
A, B, C, D = (PeerId(bytes([n]) * 32) for n in range(1, 5))
REQUEST = RouteRequest(model=MODEL, num_blocks=6, cache_tokens=10)
NEAR = Links(
    own=dict.fromkeys((A, B, C, D), 0.01), between={(x, y): 0.01 for x in (A, B, C, D) for y in (A, B, C, D)}
)


def peer(
    peer_id: PeerId, start: int, end: int, *, block_s: float = 0.001, free: int = 100, model: ModelId = MODEL
) -> Announcement:
    return Announcement(
        peer_id=peer_id,
        sequence=1,
        ttl_s=90.0,
        state=PeerState.ONLINE,
        swarm="home",
        serving=Serving(
            model=model,
            num_blocks=6,
            span=Span(start, end),
            has_embeddings=start == 0,
            has_head=end == 6,
            quantization=QuantFormat.NONE,
            max_session_tokens=100,
            free_cache_tokens=free,
            decode_block_s=block_s,
        ),
    )


def hops(
    announcements: Iterable[Announcement], request: RouteRequest = REQUEST, links: Links = NEAR
) -> list[Hop]:
    return list(lowest_latency_route(announcements, request, links).hops)


def test_hops_follow_each_other_over_all_blocks() -> None:
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


def test_announced_round_trips_are_used_in_both_directions() -> None:
    links = announced_links([replace(peer(A, 0, 3), rtts=((B, 0.3),))], own={A: 0.02})
    assert links.one_way_s(A, B) == links.one_way_s(B, A) == 0.15
    assert links.one_way_s(None, A) == links.one_way_s(A, None) == 0.01


def test_avoided_peers_and_those_that_are_not_pinned_are_left_out() -> None:
    everyone = [peer(A, 0, 6), peer(B, 0, 6, block_s=0.002)]
    assert hops(everyone, replace(REQUEST, avoid=frozenset({A}))) == [Hop(B, Span(0, 6))]
    assert hops(everyone, replace(REQUEST, pinned=(B,))) == [Hop(B, Span(0, 6))]


def test_other_weights_of_the_same_name_never_mix() -> None:
    fork = ModelId(MODEL.name, "b" * 64)
    with pytest.raises(NoRoute) as caught:
        hops([peer(A, 0, 3), peer(B, 3, 6, model=fork)])
    assert caught.value.gaps == ((3, 6),)


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
    assert expected_step_s(route, announcements, NEAR) == pytest.approx(
        three_ways_s + 2 * HOP_OVERHEAD_S + compute_s
    )


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
    route = lowest_latency_route(everyone, replace(REQUEST, num_blocks=80), Links())
    assert len(route.hops) == 8
