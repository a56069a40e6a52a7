from dataclasses import replace

import pytest

from gridnode.core.announcements import Announcement, PeerState, Serving
from gridnode.core.ids import ModelId, PeerId
from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.core.swarm import MAX_PEERS, SwarmState

MODEL = ModelId("tiny", "a" * 64)


def announcement(
    number: int = 1,
    *,
    span: Span | None = None,
    sequence: int = 1,
    ttl_s: float = 90.0,
    state: PeerState = PeerState.ONLINE,
) -> Announcement:
    serving = span and Serving(
        model=MODEL,
        num_blocks=6,
        span=span,
        has_embeddings=span.start == 0,
        has_head=span.end == 6,
        quantization=QuantFormat.NONE,
        max_session_tokens=100,
        free_cache_tokens=100,
        decode_block_s=0.001,
    )
    peer_id = PeerId(number.to_bytes(32, "big"))
    return Announcement(
        peer_id=peer_id, sequence=sequence, ttl_s=ttl_s, state=state, swarm="home", serving=serving
    )


def test_peer_expires_after_its_ttl() -> None:
    swarm = SwarmState().apply(announcement(ttl_s=90.0), now=1000.0)
    assert swarm.expire(now=1089.9).peers
    assert not swarm.expire(now=1090.1).peers


def test_time_on_the_way_counts_against_the_ttl() -> None:
    swarm = SwarmState().apply(announcement(ttl_s=90.0), now=1000.0, age_s=60.0)
    assert swarm.expire(now=1029.9).peers
    assert not swarm.expire(now=1030.1).peers
    assert not SwarmState().apply(announcement(ttl_s=90.0), now=1000.0, age_s=91.0).peers


def test_only_newer_announcements_replace() -> None:
    swarm = SwarmState().apply(announcement(span=Span(0, 3), sequence=5), now=0.0)
    assert swarm.apply(announcement(span=Span(3, 6), sequence=5), now=1.0) is swarm
    assert swarm.apply(announcement(span=Span(3, 6), sequence=4), now=1.0) is swarm
    assert swarm.apply(announcement(span=Span(3, 6), sequence=6), now=1.0).spans(MODEL) == [Span(3, 6)]


def test_an_expired_announcement_cannot_be_replayed() -> None:
    swarm = SwarmState().apply(announcement(sequence=5), now=0.0).expire(now=100.0)
    assert not swarm.apply(announcement(sequence=5), now=101.0).peers
    assert swarm.apply(announcement(sequence=6), now=101.0).peers


def test_a_goodbye_removes_the_peer_at_once() -> None:
    swarm = SwarmState().apply(announcement(sequence=1), now=0.0)
    swarm = swarm.apply(announcement(sequence=2, state=PeerState.OFFLINE), now=1.0)
    assert not swarm.peers


def test_a_lost_peer_comes_back_with_its_next_announcement_only() -> None:
    first = announcement(sequence=1)
    swarm = SwarmState().apply(first, now=0.0).without(first.peer_id)
    assert not swarm.apply(first, now=1.0).peers
    assert swarm.apply(replace(first, sequence=2), now=1.0).peers


def test_a_full_view_takes_no_new_peer_but_renews_old_ones() -> None:
    swarm = SwarmState()
    peers = {
        ann.peer_id: peer
        for number in range(MAX_PEERS)
        for ann in [announcement(number)]
        for peer in SwarmState().apply(ann, now=0.0).peers.values()
    }
    swarm = SwarmState(peers)
    assert swarm.apply(announcement(MAX_PEERS + 1), now=0.0) is swarm
    assert len(swarm.apply(announcement(3, sequence=2), now=0.0).peers) == MAX_PEERS


def test_gaps_and_coverage_count_those_that_are_online() -> None:
    swarm = SwarmState()
    for number, span, state in [
        (1, Span(0, 2), PeerState.ONLINE),
        (2, Span(1, 4), PeerState.ONLINE),
        (3, Span(4, 6), PeerState.JOINING),
    ]:
        swarm = swarm.apply(announcement(number, span=span, state=state), now=0.0)
    assert swarm.coverage(MODEL, 6) == [1, 2, 1, 1, 0, 0]
    assert swarm.gaps(MODEL, 6) == (Span(4, 6),)
    assert swarm.models() == {MODEL: 6}


def said_to_have(num_blocks: int, number: int) -> Announcement:
    honest = announcement(number, span=Span(0, 3))
    assert honest.serving is not None
    return replace(honest, serving=replace(honest.serving, num_blocks=num_blocks))


def test_one_stranger_cannot_change_the_number_of_blocks_of_a_model() -> None:
    swarm = SwarmState()
    for number, num_blocks in enumerate((6, 6, 9, 3), start=1):
        swarm = swarm.apply(said_to_have(num_blocks, number), now=0.0)
        assert swarm.models() == {MODEL: 6}
        assert swarm.coverage(MODEL, 6) == [min(number, 2)] * 3 + [0] * 3
        assert swarm.gaps(MODEL, 6) == (Span(3, 6),)
    # Of as many, those heard first are believed.
    swarm = swarm.apply(said_to_have(9, 5), now=0.0)
    assert swarm.models() == {MODEL: 6}


def test_what_a_node_serves_itself_it_knows_better_than_any_number_of_strangers() -> None:
    mine = said_to_have(6, 9)
    swarm = SwarmState(me=mine.peer_id)
    for said in (*(said_to_have(9, number) for number in range(1, 4)), mine):
        swarm = swarm.apply(said, now=0.0)
    assert swarm.models() == {MODEL: 6}
    assert [ann.peer_id for ann in swarm.serving(MODEL)] == [mine.peer_id]


@pytest.mark.parametrize("decode_block_s", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_nonsense_speeds_are_refused(decode_block_s: float) -> None:
    serving = announcement(span=Span(0, 3)).serving
    assert serving is not None
    with pytest.raises(ValueError, match="decode_block_s"):
        replace(serving, decode_block_s=decode_block_s)
