"""What a relay says of itself, in words."""

from __future__ import annotations

from gridnode.control.served_relay import describe_losses, describe_traffic
from gridnode.net.relay_counters import RelayCounters


def test_a_relay_without_losses_does_not_speak_of_them() -> None:
    counters = RelayCounters(udp_nodes=1, udp_packets=1, udp_bytes=2048)
    assert describe_traffic(counters) == "1 node, 1 packet and 2.00 KiB forwarded"
    assert describe_losses(counters) == ""


def test_every_limit_is_named_with_what_it_cost() -> None:
    counters = RelayCounters(
        refused_nodes=1,
        refused_nodes_per_address=2,
        dropped_node_rate=3,
        dropped_total_rate=4,
        dropped_stranger=5,
        dropped_absent=6,
        dropped_slow_reader=7,
    )
    assert describe_losses(counters) == (
        "25 packets dropped: 3 above the rate of one node, 4 above the rate of all nodes, 5 from strangers, "
        "6 to nodes that are not there, 7 to nodes whose WebSocket is too slow; "
        "3 registrations refused: 1 above the number of nodes, 2 above that of one address"
    )
