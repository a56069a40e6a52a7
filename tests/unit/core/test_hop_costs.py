from dataclasses import replace

from routing_peers import A, B, peer

from gridnode.core.hop_costs import HOP_OVERHEAD_S, HopCosts, Links, Pace, announced_links


def test_announced_round_trips_are_used_in_both_directions() -> None:
    links = announced_links([replace(peer(A, 0, 3), rtts=((B, 0.3),))], own={A: 0.02})
    assert links.one_way_s(A, B) == links.one_way_s(B, A) == 0.15
    assert links.one_way_s(None, A) == links.one_way_s(A, None) == 0.01


def test_our_own_sessions_count_as_its_queue() -> None:
    serving = peer(A, 0, 6, block_s=0.01).serving
    assert serving is not None
    assert HopCosts().busy_block_s(A, serving) == 0.01
    assert HopCosts(own_sessions={A: 3}).busy_block_s(A, serving) == 0.04


def test_measured_waiting_replaces_the_announced_queue() -> None:
    serving = peer(A, 0, 6, block_s=0.01).serving
    assert serving is not None
    serving = replace(serving, queued_steps=2.0)
    costs = HopCosts(links=Links(own={A: 0.0}))
    assert costs.entry_s(None, A, serving) == HOP_OVERHEAD_S + 2.0 * 0.01 * 6
    assert replace(costs, paces={A: Pace(0.01, 0.5)}).entry_s(None, A, serving) == HOP_OVERHEAD_S + 0.5
