from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridnode.core.grants import Use, make_ticket
from gridnode.core.ids import PeerId
from gridnode.core.swarm_pass import MAX_SWARM_KEYS, Challenge, Standing, SwarmPass
from gridnode.core.swarm_secret import SwarmKey
from gridnode.errors import SwarmRefused

NOW_S = 1_000_000
DAY_S = 86400
KEY = SwarmKey(seed=bytes(range(32)), made_s=NOW_S - DAY_S, older_until_s=NOW_S - DAY_S)
OTHER = SwarmKey(seed=bytes(32), made_s=NOW_S - DAY_S, older_until_s=NOW_S - DAY_S)
NEWER = SwarmKey(seed=bytes(range(1, 33)), made_s=NOW_S, older_until_s=NOW_S + DAY_S)
MEMBER = SwarmPass(name="home", keys=(KEY,))
ADA, BO = PeerId(b"a" * 32), PeerId(b"b" * 32)
CHALLENGE = Challenge(prover=ADA, verifier=BO, nonce=b"n" * 32)


def guest(use: Use = Use.CHAT, *, until_s: int = NOW_S + DAY_S, key: SwarmKey = KEY) -> SwarmPass:
    return SwarmPass(name="home", ticket=make_ticket(key, bytes(range(50, 82)), use=use, until_s=until_s))


@pytest.mark.parametrize("holder", [MEMBER, guest(), guest(Use.SERVE)])
def test_members_and_guests_prove_that_they_belong(holder: SwarmPass) -> None:
    proof = holder.prove(CHALLENGE, public_key=KEY.public_key)
    for verifier in (MEMBER, guest(), guest(Use.SERVE)):
        standing = verifier.check(proof, CHALLENGE, public_key=KEY.public_key, now_s=NOW_S)
        assert standing.holds_key == (holder is MEMBER)
        assert standing.may_serve == holder.may_serve
        assert verifier.accepts(standing, now_s=NOW_S)


def test_a_proof_is_of_no_use_to_anybody_else_and_never_again() -> None:
    eve = PeerId(b"e" * 32)
    for holder in (MEMBER, guest()):
        proof = holder.prove(CHALLENGE, public_key=KEY.public_key)
        for other in (
            replace(CHALLENGE, prover=eve),
            replace(CHALLENGE, verifier=eve),
            replace(CHALLENGE, prover=BO, verifier=ADA),
            replace(CHALLENGE, nonce=b"m" * 32),
        ):
            with pytest.raises(SwarmRefused, match="not made with the swarm key"):
                MEMBER.check(proof, other, public_key=KEY.public_key, now_s=NOW_S)


@given(seed=st.binary(min_size=32, max_size=32), flip=st.integers(0, 64 * 8 - 1))
def test_no_other_key_and_no_changed_signature_proves_anything(seed: bytes, flip: int) -> None:
    stranger = SwarmPass(name="home", keys=(replace(KEY, seed=seed),))
    proof = stranger.prove(CHALLENGE, public_key=stranger.keys[0].public_key)
    with pytest.raises(SwarmRefused):
        MEMBER.check(proof, CHALLENGE, public_key=KEY.public_key, now_s=NOW_S)
    true = MEMBER.prove(CHALLENGE, public_key=KEY.public_key)
    bits = int.from_bytes(true.signature, "big") ^ (1 << flip)
    with pytest.raises(SwarmRefused):
        MEMBER.check(
            replace(true, signature=bits.to_bytes(64, "big")),
            CHALLENGE,
            public_key=KEY.public_key,
            now_s=NOW_S,
        )


def test_a_proof_under_another_name_is_refused() -> None:
    proof = SwarmPass(name="lab", keys=(KEY,)).prove(CHALLENGE, public_key=KEY.public_key)
    with pytest.raises(SwarmRefused):
        MEMBER.check(proof, CHALLENGE, public_key=KEY.public_key, now_s=NOW_S)


def test_an_invitation_of_another_swarm_is_refused() -> None:
    proof = guest(key=OTHER).prove(CHALLENGE, public_key=OTHER.public_key)
    with pytest.raises(SwarmRefused, match="not signed with the swarm key"):
        MEMBER.check(proof, CHALLENGE, public_key=KEY.public_key, now_s=NOW_S)


def test_an_invitation_ends_at_its_time_also_on_an_open_link() -> None:
    until_s = NOW_S + 60
    proof = guest(until_s=until_s).prove(CHALLENGE, public_key=KEY.public_key)
    standing = MEMBER.check(proof, CHALLENGE, public_key=KEY.public_key, now_s=until_s - 1)
    assert MEMBER.accepts(standing, now_s=until_s - 1)
    assert not MEMBER.accepts(standing, now_s=until_s)
    with pytest.raises(SwarmRefused, match="expired at 1970-01-12 13:47 UTC; ask a member"):
        MEMBER.check(proof, CHALLENGE, public_key=KEY.public_key, now_s=until_s)


def test_the_old_key_is_accepted_beside_the_new_one_for_the_grace_period_only() -> None:
    after = MEMBER.with_key(NEWER)
    assert after.public_keys(now_s=NOW_S) == (NEWER.public_key, KEY.public_key)
    assert after.public_keys(now_s=NOW_S + DAY_S) == (NEWER.public_key,)
    assert len(after.ids("lan", now_s=NOW_S)) == 2
    under_old = Standing(public_key=KEY.public_key)
    assert after.accepts(under_old, now_s=NOW_S + DAY_S - 1)
    assert not after.accepts(under_old, now_s=NOW_S + DAY_S)


def test_an_older_key_never_lives_longer_than_a_newer_one_allows() -> None:
    newest = SwarmKey(seed=b"x" * 32, made_s=NOW_S + 10, older_until_s=NOW_S + 10)
    assert MEMBER.with_key(NEWER).with_key(newest).public_keys(now_s=NOW_S + 10) == (newest.public_key,)


def test_guests_of_a_replaced_key_have_its_grace_period() -> None:
    standing = Standing(public_key=KEY.public_key, grant=guest(until_s=NOW_S + 9 * DAY_S).ticket.grant)  # type: ignore[union-attr]
    after = MEMBER.with_key(NEWER)
    assert after.accepts(standing, now_s=NOW_S + DAY_S - 1)
    assert not after.accepts(standing, now_s=NOW_S + DAY_S)


def test_a_new_key_is_believed_of_members_with_the_present_one_only() -> None:
    present = Standing(public_key=KEY.public_key)
    assert MEMBER.follow(NEWER, teller=present, now_s=NOW_S).keys == (NEWER, KEY)
    for teller in (
        Standing(),
        Standing(public_key=OTHER.public_key),
        Standing(public_key=KEY.public_key, grant=guest().ticket.grant),  # type: ignore[union-attr]
    ):
        with pytest.raises(SwarmRefused, match="only members with the present swarm key"):
            MEMBER.follow(NEWER, teller=teller, now_s=NOW_S)
    # Whoever holds the old key only may be the reason for the new one.
    later = SwarmKey(seed=b"x" * 32, made_s=NOW_S + 10, older_until_s=NOW_S + 10)
    with pytest.raises(SwarmRefused, match="only members with the present"):
        MEMBER.with_key(NEWER).follow(later, teller=present, now_s=NOW_S + 10)


@pytest.mark.parametrize("made_s", [KEY.made_s, KEY.made_s - 1, NOW_S + 301])
def test_a_new_key_must_be_newer_and_not_from_the_future(made_s: int) -> None:
    key = SwarmKey(seed=b"x" * 32, made_s=made_s, older_until_s=made_s)
    with pytest.raises(SwarmRefused, match="cannot replace"):
        MEMBER.follow(key, teller=Standing(public_key=KEY.public_key), now_s=NOW_S)


def test_a_key_that_is_known_is_no_new_one_whatever_its_date() -> None:
    swarm = MEMBER.with_key(NEWER)
    for known in swarm.keys:
        again = replace(known, made_s=NOW_S + 9, older_until_s=NOW_S + 9)
        with pytest.raises(SwarmRefused, match="known already"):
            swarm.follow(again, teller=Standing(public_key=NEWER.public_key), now_s=NOW_S + 9)


@given(st.lists(st.integers(0, 10**6), unique=True, min_size=1, max_size=12))
def test_in_whatever_order_keys_come_the_newest_counts(times: list[int]) -> None:
    swarm = SwarmPass(name="home", keys=(replace(KEY, made_s=0, older_until_s=0),))
    for made_s in times:
        seed = made_s.to_bytes(32, "big")
        swarm = swarm.with_key(SwarmKey(seed=seed, made_s=made_s, older_until_s=made_s + DAY_S))
    assert swarm.keys[0].made_s == max(times)
    assert len(swarm.keys) <= MAX_SWARM_KEYS
    assert list(swarm.keys) == sorted(swarm.keys, key=lambda key: (key.made_s, key.seed), reverse=True)


def test_a_public_swarm_has_one_id_and_takes_everybody() -> None:
    public = SwarmPass(name="home")
    assert not public.is_private
    assert len(public.ids("relay", now_s=NOW_S)) == 1
    assert public.accepts(Standing(), now_s=NOW_S)


def test_a_guest_finds_the_swarm_under_the_same_id_as_a_member() -> None:
    assert guest().ids("lan", now_s=NOW_S) == MEMBER.ids("lan", now_s=NOW_S)


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_a_name_has_1_to_64_characters(name: str) -> None:
    with pytest.raises(ValueError, match=r"1\.\.64 characters"):
        SwarmPass(name=name)
