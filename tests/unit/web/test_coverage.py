from __future__ import annotations

from dataclasses import replace

import pytest
from fake_swarm import model, peer

from gridnode.control.status_schema import PeerStatus
from gridnode_web.coverage import MAX_MARKS, Advice, Coverage, Run, advice, cover, mark_step, servings


def swarm(*spans: tuple[int, int, str]) -> list[PeerStatus]:
    return [
        peer(i, start, end, model="tiny", num_blocks=30, state=state)
        for i, (start, end, state) in enumerate(spans)
    ]


def coverage(peers: list[PeerStatus]) -> Coverage:
    ((_, serving),) = servings(peers).items()
    return cover(model("tiny", 30, peers), serving)


def advised(peers: list[PeerStatus], name: str = "tiny") -> Advice:
    ((_, serving),) = servings(peers).items()
    return advice(model(name, 30, peers), serving, join="192.0.2.1:7338")


def test_peers_are_grouped_by_what_they_serve_and_ordered_by_their_first_blocks() -> None:
    big, small = peer(1, 20, 40, model="big"), peer(2, 0, 10, model="small")
    found = servings([big, peer(3, 0, 20, model="big"), small, replace(small, serving=None)])
    assert sorted([p.peer_id for p, _ in serving] for serving in found.values()) == sorted(
        [[peer(3, 0, 1).peer_id, big.peer_id], [small.peer_id]]
    )


@pytest.mark.parametrize("num_blocks", [1, 126, MAX_MARKS, MAX_MARKS + 1, 4096])
def test_rulers_have_a_mark_for_each_block_up_to_a_limit(num_blocks: int) -> None:
    step = mark_step(num_blocks)
    assert num_blocks / step <= MAX_MARKS
    assert (step == 1) is (num_blocks <= MAX_MARKS)


def test_blocks_with_equal_coverage_are_put_together() -> None:
    peers = swarm((0, 20, "online"), (10, 20, "online"), (20, 30, "joining"))
    found = coverage(peers)
    assert found.runs == [Run(0, 10, 1), Run(10, 20, 2), Run(20, 30, 0)]
    assert (found.least, found.health, found.coming[25]) == (0, "broken", 1)


def test_one_holder_is_thin_and_two_are_healthy() -> None:
    thin, healthy = swarm((0, 30, "online")), swarm((0, 30, "online"), (0, 30, "online"))
    assert coverage(thin).health == "thin"
    assert coverage(healthy).health == "healthy"


def test_a_new_node_fills_the_gap_first() -> None:
    peers = swarm((0, 12, "online"), (20, 30, "online"))
    found = advised(peers)
    assert str(found.span) == "12:20"
    assert "served by nobody" in found.text
    assert found.command == "gridnode up --model tiny --blocks 12:20 --join 192.0.2.1:7338"


def test_a_gap_that_somebody_loads_is_left_to_them() -> None:
    peers = swarm((0, 15, "online"), (0, 15, "online"), (15, 30, "joining"))
    found = advised(peers)
    assert str(found.span) == "15:30"
    assert "one node only" in found.text


def test_a_strangers_name_is_no_command() -> None:
    name = "tiny; rm -rf ~"
    peers = [peer(0, 0, 30, model=name, num_blocks=30)]
    command = advised(peers, name).command
    assert "--model 'tiny; rm -rf ~' " in command
