from __future__ import annotations

from wire_samples import SERVING

from gridnode.core.announcements import Announcement, PeerState, Serving
from gridnode.core.ids import PeerId
from gridnode.core.swarm import SwarmState
from gridnode.node.balancer import is_our_turn

SMALL, ME, LARGE = PeerId(b"\1" * 32), PeerId(b"\2" * 32), PeerId(b"\3" * 32)


def swarm_with(peer_id: PeerId, state: PeerState, serving: Serving | None = None) -> SwarmState:
    announcement = Announcement(
        peer_id=peer_id, sequence=1, ttl_s=90.0, state=state, swarm="home", serving=serving
    )
    return SwarmState().apply(announcement, now=0.0)


def test_a_smaller_id_that_has_not_chosen_goes_first() -> None:
    assert not is_our_turn(swarm_with(SMALL, PeerState.JOINING), ME)
    assert is_our_turn(swarm_with(LARGE, PeerState.JOINING), ME)


def test_who_has_chosen_or_serves_nothing_is_not_waited_for() -> None:
    assert is_our_turn(swarm_with(SMALL, PeerState.JOINING, SERVING), ME)
    assert is_our_turn(swarm_with(SMALL, PeerState.ONLINE), ME)
    assert is_our_turn(SwarmState(), ME)
