from __future__ import annotations

import pytest

from gridnode.config import NodeConfig
from gridnode.core.addresses import Address


def test_the_networks_of_a_computer_are_chosen_in_one_place() -> None:
    assert NodeConfig(bind="eth0", listen=Address("::", 9)).bind == "eth0"
    with pytest.raises(ValueError, match=r"--bind eth0 and --listen 127.0.0.1:9 both choose"):
        NodeConfig(bind="eth0", listen=Address("127.0.0.1", 9))


def test_nodes_of_a_network_find_each_other_unless_told_otherwise() -> None:
    assert NodeConfig().mdns
    assert NodeConfig().listen == Address("0.0.0.0", 7338)
