from __future__ import annotations

from dataclasses import replace

import pytest
from fake_swarm import ReadPeers, peer, small_swarm

from gridnode.control.history import Work
from gridnode.control.status_schema import NodeStatus, PeerStatus
from gridnode_web.contributors_page import credit, link_of


def swarm(*peers: PeerStatus) -> NodeStatus:
    return replace(small_swarm(), peers=peers)


def work(of: PeerStatus, block_tokens: int, name: str = "") -> Work:
    return Work(
        peer_id=of.peer_id,
        public_name=name or of.public_name,
        block_tokens=block_tokens,
        first_at=1.0,
        last_at=2.0,
    )


def test_ones_own_name_is_first_then_who_did_the_most() -> None:
    me, bob, cleo = peer(0, 0, 10, name="me"), peer(1, 0, 10, name="Bob"), peer(2, 0, 40, name="Cleo")
    found = credit(swarm(bob, me, cleo), [work(bob, 500), work(cleo, 100), work(me, 1)])
    assert [c.name for c in found] == ["me", "Bob", "Cleo"]
    assert [c.share for c in found] == pytest.approx([1 / 601, 500 / 601, 100 / 601])


def test_blocks_held_may_decide() -> None:
    worked, holds = peer(1, 0, 10, name="Bob"), peer(2, 0, 40, name="Cleo")
    found = credit(swarm(worked, holds), [work(worked, 500)], order="blocks")
    assert [c.name for c in found] == ["Cleo", "Bob"]


def test_nodes_of_one_name_are_one_contributor() -> None:
    first, second = peer(1, 0, 10, name="Bob"), peer(2, 10, 30, name="Bob")
    (bob,) = credit(swarm(first, second), [work(first, 5), work(second, 7)])
    assert (bob.block_tokens, bob.blocks, bob.num_online) == (12, 30, 2)


def test_nodes_without_a_name_stand_for_themselves() -> None:
    found = credit(swarm(peer(1, 0, 10), peer(2, 0, 10)), [])
    assert [len(c.peer_ids) for c in found] == [1, 1]
    assert {c.name for c in found} == {peer(1, 0, 1).short, peer(2, 0, 1).short}


def test_peers_are_looked_through_as_often_for_many_names_as_for_one() -> None:
    def num_looks(names: list[str]) -> int:
        peers = ReadPeers(peer(i, 0, 10, name=name) for i, name in enumerate(names))
        assert len(credit(replace(small_swarm(), peers=peers), [])) == len(set(names))
        return peers.num_looks

    assert num_looks([f"Bob {i}" for i in range(50)]) == num_looks(["Bob"] * 50)


def test_small_donors_and_those_who_left_are_shown() -> None:
    gone = peer(9, 0, 1, name="Gone")
    found = credit(swarm(peer(1, 0, 1, name="Small")), [work(gone, 3)])
    assert [(c.name, c.blocks, c.block_tokens) for c in found] == [("Gone", 0, 3), ("Small", 1, 0)]


@pytest.mark.parametrize(
    ("name", "is_link"),
    [
        ("https://example.org/lab", True),
        ("http://example.org:8080", True),
        ("Example https://example.org", False),
        ("javascript:alert(1)", False),
        ('https://example.org/"onmouseover="x', False),
        ("https://example.org@evil.example", False),
    ],
)
def test_only_plain_web_addresses_become_links(name: str, is_link: bool) -> None:
    assert bool(link_of(name)) is is_link
