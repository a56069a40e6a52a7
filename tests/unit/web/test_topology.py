from __future__ import annotations

from dataclasses import replace

from fake_swarm import large_swarm, small_swarm

from gridnode_web.topology import MAX_FAR_LINKS, MAX_NODES, PAIR_WIDTH, WIDTH, cache_use, draw


def test_every_node_of_a_small_swarm_has_a_place_in_the_picture() -> None:
    status = small_swarm()
    picture = draw(status.peers, status.models[0].route_peers)
    assert len(picture.places) == len(status.peers)
    assert picture.num_hidden == 0
    assert all(0 < place.x < WIDTH and 0 < place.y < picture.height for place in picture.places)
    assert len(picture.near) == len(status.peers) - 1
    assert picture.route.count(" ") == len(status.models[0].route_peers)


def test_two_nodes_stand_side_by_side_in_a_picture_that_fits_on_a_phone() -> None:
    status = small_swarm()
    home = next(peer for peer in status.peers if peer.is_self)
    other = next(peer for peer in status.peers if not peer.is_self)
    picture = draw([home, other], [])
    assert picture.width == PAIR_WIDTH
    left, right = sorted(place.x for place in picture.places)
    assert left == PAIR_WIDTH - right, "as much room for a name on either side"
    assert right - left > PAIR_WIDTH / 3


def test_a_large_swarm_shows_the_nearest_and_the_route() -> None:
    status = large_swarm(500)
    far = max(status.peers, key=lambda p: p.rtt_s or 0.0)
    picture = draw(status.peers, [far.peer_id])
    assert len(picture.places) == MAX_NODES
    assert picture.num_hidden == 500 - MAX_NODES
    assert far in [place.peer for place in picture.places]


def test_a_route_is_not_searched_for_each_node() -> None:
    class Route(tuple[str, ...]):
        __contains__ = None  # type: ignore[assignment]

    status = large_swarm(40)
    hops = Route(peer.peer_id for peer in status.peers[-3:])
    assert set(hops) <= {place.peer.peer_id for place in draw(status.peers, hops).places}


def test_links_of_others_are_bounded_and_drawn_once() -> None:
    picture = draw(small_swarm().peers, [])
    ends = [frozenset(((line.x1, line.y1), (line.x2, line.y2))) for line in picture.far]
    assert len(ends) == len(set(ends)) == MAX_FAR_LINKS


def test_cache_use_is_unknown_of_nodes_that_do_not_tell() -> None:
    peer = small_swarm().peers[0]
    assert peer.serving is not None
    assert cache_use(replace(peer, serving=None)) is None
    assert cache_use(replace(peer, serving=replace(peer.serving, total_cache_tokens=0))) is None
    half = replace(peer.serving, total_cache_tokens=100, free_cache_tokens=50)
    assert cache_use(replace(peer, serving=half)) == 50
