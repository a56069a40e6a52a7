"""`gridnode ping`, against a door of a node that is made up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_node import STATUS

from gridnode.cli.json_records import Pong
from gridnode.cli.pinging import find_peer, pong_line
from gridnode.control.status_schema import NodeStatus, PeerStatus
from gridnode.errors import BadInput


def peer(letter: str, name: str = "") -> PeerStatus:
    return replace(
        STATUS.peers[0], peer_id=letter * 52, short=letter * 8, is_self=False, public_name=name, path="lan"
    )


SWARM: NodeStatus = replace(STATUS, peers=(STATUS.peers[0], peer("b", "Bo"), peer("c", "Cy")))


@pytest.mark.parametrize("wanted", ["Bo", "b", "bbbbbbbb", "BBBB", "b" * 52])
def test_a_peer_is_found_by_its_name_and_by_the_beginning_of_its_id(wanted: str) -> None:
    assert find_peer(SWARM, wanted).public_name == "Bo"


def test_others_are_named_if_none_fits() -> None:
    with pytest.raises(BadInput, match=r"'Dan' fits no node of the swarm; there are: b+ \(Bo\), c+ \(Cy\)"):
        find_peer(SWARM, "Dan")


def test_a_node_does_not_ping_itself() -> None:
    with pytest.raises(BadInput, match="there are: none yet"):
        find_peer(STATUS, STATUS.peers[0].peer_id)


def test_several_that_fit_are_named() -> None:
    twins = replace(SWARM, peers=(*SWARM.peers, peer("d", "Bo")))
    with pytest.raises(BadInput, match=r"fits several nodes; they are: b+ .*d+ "):
        find_peer(twins, "Bo")


def test_an_answer_says_the_way_and_the_time() -> None:
    pong = Pong(peer_id="b" * 52, path="lan", address="192.168.7.2:7338", rtt_s=0.00042, problem="")
    assert pong_line(pong) == "pong from bbbbbbbb by lan 192.168.7.2:7338 in 0.42 ms"
    assert "no answer from bbbbbbbb: gone" in pong_line(replace(pong, rtt_s=None, problem="gone"))
