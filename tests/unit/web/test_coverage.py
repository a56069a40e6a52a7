from __future__ import annotations

from fake_swarm import model, peer

from gridnode.control.status_schema import PeerStatus
from gridnode_web.coverage import Run, advice, cover


def swarm(*spans: tuple[int, int, str]) -> list[PeerStatus]:
    return [
        peer(i, start, end, model="tiny", num_blocks=30, state=state)
        for i, (start, end, state) in enumerate(spans)
    ]


def test_blocks_with_equal_coverage_are_put_together() -> None:
    peers = swarm((0, 20, "online"), (10, 20, "online"), (20, 30, "joining"))
    found = cover(model("tiny", 30, peers), peers)
    assert found.runs == [Run(0, 10, 1), Run(10, 20, 2), Run(20, 30, 0)]
    assert (found.least, found.health, found.coming[25]) == (0, "broken", 1)


def test_one_holder_is_thin_and_two_are_healthy() -> None:
    thin, healthy = swarm((0, 30, "online")), swarm((0, 30, "online"), (0, 30, "online"))
    assert cover(model("tiny", 30, thin), thin).health == "thin"
    assert cover(model("tiny", 30, healthy), healthy).health == "healthy"


def test_a_new_node_fills_the_gap_first() -> None:
    peers = swarm((0, 12, "online"), (20, 30, "online"))
    found = advice(model("tiny", 30, peers), peers, join="192.0.2.1:7338")
    assert str(found.span) == "12:20"
    assert "served by nobody" in found.text
    assert found.command == "gridnode up --model tiny --blocks 12:20 --join 192.0.2.1:7338"


def test_a_gap_that_somebody_loads_is_left_to_them() -> None:
    peers = swarm((0, 15, "online"), (0, 15, "online"), (15, 30, "joining"))
    found = advice(model("tiny", 30, peers), peers, join="192.0.2.1:7338")
    assert str(found.span) == "15:30"
    assert "one node only" in found.text


def test_a_strangers_name_is_no_command() -> None:
    name = "tiny; rm -rf ~"
    peers = [peer(0, 0, 30, model=name, num_blocks=30)]
    command = advice(model(name, 30, peers), peers, join="192.0.2.1:7338").command
    assert "--model 'tiny; rm -rf ~' " in command
