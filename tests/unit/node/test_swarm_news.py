from __future__ import annotations

from dataclasses import replace

from wire_samples import SERVING

from gridnode.core.announcements import Announcement, PeerState
from gridnode.core.ids import PeerId
from gridnode.core.spans import Span
from gridnode.core.swarm import SwarmState
from gridnode.node.swarm_news import swarm_news

ME, ADA = PeerId(b"m" * 32), PeerId(b"a" * 32)


def announcement(sequence: int, state: PeerState = PeerState.ONLINE, peer_id: PeerId = ADA) -> Announcement:
    return Announcement(
        peer_id=peer_id,
        sequence=sequence,
        ttl_s=90.0,
        state=state,
        swarm="home",
        public_name="Ada",
        serving=replace(SERVING, num_blocks=10, span=Span(0, 4)),
    )


def news(*steps: Announcement) -> list[tuple[str, str]]:
    """Return the news of the last step."""
    before = after = SwarmState()
    for step in steps:
        before, after = after, after.apply(step, now=0.0)
    return [(a.kind, a.text) for a in swarm_news(before, after, me=ME, at=1.0)]


def test_a_node_joins_and_then_serves() -> None:
    assert news(announcement(1, PeerState.JOINING)) == [("joined", "joined the swarm")]
    assert news(announcement(1, PeerState.JOINING), announcement(2)) == [
        ("serving", "serves blocks 0:4 of tiny")
    ]


def test_renewed_announcements_are_no_news() -> None:
    assert news(announcement(1), announcement(2)) == []


def test_a_goodbye_is_told_from_silence() -> None:
    assert news(announcement(1), announcement(2, PeerState.OFFLINE)) == [
        ("left", "left the swarm; it served blocks 0:4 of tiny")
    ]
    before = SwarmState().apply(announcement(1), now=0.0)
    (lost,) = swarm_news(before, before.expire(now=1e9), me=ME, at=1.0)
    assert (lost.kind, lost.text) == ("lost", "went silent; it served blocks 0:4 of tiny")
    assert lost.public_name == "Ada"


def test_this_node_is_told_only_as_serving() -> None:
    assert news(announcement(1, peer_id=ME)) == [("serving", "serves blocks 0:4 of tiny")]
    assert news(announcement(1, peer_id=ME), announcement(2, PeerState.OFFLINE, ME)) == []
