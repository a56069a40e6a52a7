"""Which announcements a node believes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gridnode.core.announcements import MAX_CLOCK_DIFFERENCE_S, Announcement, PeerState
from gridnode.core.ids import PeerId
from gridnode.core.swarm import SwarmState
from gridnode.errors import Unauthentic
from gridnode.net.identity import Identity
from gridnode.node import hearsay
from gridnode.node.hearsay import Hearsay
from gridnode.wire.messages import SignedAnnouncement
from gridnode.wire.signing import sign_announcement

PEER = Identity.generate()
OTHER = Identity.generate()
NOW_S = 1_800_000_000.0
TTL_S = 90.0


def announce(
    *, made_at_s: float = NOW_S, swarm: str = "home", by: Identity = PEER, age_s: float = 0.0
) -> SignedAnnouncement:
    announcement = Announcement(
        peer_id=by.peer_id,
        sequence=int(made_at_s * 1000),
        ttl_s=TTL_S,
        state=PeerState.ONLINE,
        swarm=swarm,
    )
    return replace(sign_announcement(announcement, by.sign), age_s=age_s)


def is_taken_over(signed: SignedAnnouncement, *, teller: PeerId = OTHER.peer_id) -> bool:
    """Return whether a node that knows nothing yet takes the announcement into its view."""
    heard = asyncio.run(Hearsay("home", wall_s=lambda: NOW_S).believe(signed, teller=teller))
    if heard is None:
        return False
    announcement, age_s = heard
    return bool(SwarmState().apply(announcement, now=0.0, age_s=age_s).peers)


@pytest.mark.parametrize("teller", [PEER.peer_id, OTHER.peer_id], ids=["first hand", "passed on"])
def test_a_fresh_announcement_is_believed(teller: PeerId) -> None:
    assert is_taken_over(announce(), teller=teller)


def test_a_forged_one_is_refused_and_its_teller_named(caplog: pytest.LogCaptureFixture) -> None:
    forged = replace(announce(), signature=announce(made_at_s=NOW_S + 1).signature)
    with pytest.raises(Unauthentic):
        is_taken_over(forged)
    assert "brought a forged announcement" in caplog.text


def test_nobody_speaks_for_another() -> None:
    with pytest.raises(Unauthentic):
        is_taken_over(replace(announce(by=OTHER), peer_id=PEER.peer_id))


def test_another_swarm_is_none_of_our_business() -> None:
    assert not is_taken_over(announce(swarm="lab"))


@pytest.mark.parametrize("claimed_age_s", [0.0, 10.0])
def test_an_old_one_that_is_played_back_has_expired_whatever_age_is_claimed(claimed_age_s: float) -> None:
    made_at_s = NOW_S - TTL_S - MAX_CLOCK_DIFFERENCE_S
    assert not is_taken_over(announce(made_at_s=made_at_s - 1, age_s=claimed_age_s))
    assert is_taken_over(announce(made_at_s=made_at_s + 11, age_s=claimed_age_s))


def test_the_age_that_is_told_counts_too() -> None:
    assert not is_taken_over(announce(age_s=TTL_S))


def test_a_peer_that_is_there_may_have_a_slow_clock() -> None:
    """B10."""
    assert is_taken_over(announce(made_at_s=NOW_S - 86_400), teller=PEER.peer_id)


@pytest.mark.parametrize("teller", [PEER.peer_id, OTHER.peer_id], ids=["first hand", "passed on"])
def test_one_from_the_future_is_refused(teller: PeerId) -> None:
    limit_s = NOW_S + MAX_CLOCK_DIFFERENCE_S
    assert is_taken_over(announce(made_at_s=limit_s - 1), teller=teller)
    assert not is_taken_over(announce(made_at_s=limit_s + 1), teller=teller)


def test_a_peer_with_a_fast_clock_is_named(caplog: pytest.LogCaptureFixture) -> None:
    assert not is_taken_over(announce(made_at_s=NOW_S + 7200), teller=PEER.peer_id)
    assert "7200 s from the future: set the clock" in caplog.text


def test_a_peer_that_tells_too_much_is_slowed_down_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hearsay, "MAX_ANNOUNCEMENTS_PER_S", 20.0)

    async def scenario() -> None:
        checks = Hearsay("home", wall_s=lambda: NOW_S)
        time = asyncio.get_running_loop().time
        began_at = time()
        for _ in range(45):  # a burst of 40, then one every 50 ms
            await checks.believe(announce(), teller=OTHER.peer_id)
        assert time() - began_at > 0.2
        before = time()
        await checks.believe(announce(), teller=PEER.peer_id)
        assert time() - before < 0.05

    asyncio.run(scenario())


def test_only_so_many_peers_are_metered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearsay, "MAX_METERED_PEERS", 3)

    async def scenario() -> None:
        checks = Hearsay("home", wall_s=lambda: NOW_S)
        for i in range(10):
            await checks.believe(announce(), teller=PeerId(bytes([i]) * 32))
        assert len(checks._buckets) == 3

    asyncio.run(scenario())
