"""What follows from what a node holds of its swarm."""

from __future__ import annotations

from gridnode.config import NodeConfig
from gridnode.config.swarm_file import maps_port
from gridnode.core.invitation import Invitation
from gridnode.core.swarm_pass import SwarmPass
from gridnode.core.swarm_secret import SwarmKey

HOME = Invitation(swarm=SwarmPass(name="home"))
KEY = SwarmKey(seed=bytes(32), made_s=1_700_000_000, older_until_s=1_700_000_000)
PRIVATE = Invitation(swarm=SwarmPass(name="friends", keys=(KEY,)))


def test_a_swarm_of_one_network_is_not_opened_to_strangers() -> None:
    assert not maps_port(NodeConfig(), HOME)


def test_a_node_for_the_internet_asks_its_router() -> None:
    assert maps_port(NodeConfig(relay=("relay.example.org",)), HOME)
    assert maps_port(NodeConfig(), Invitation(swarm=SwarmPass(name="home"), relays=("192.0.2.7",)))
    assert maps_port(NodeConfig(), PRIVATE)


def test_the_word_of_the_user_counts() -> None:
    assert maps_port(NodeConfig(port_mapping=True), HOME)
    assert not maps_port(NodeConfig(port_mapping=False), PRIVATE)
