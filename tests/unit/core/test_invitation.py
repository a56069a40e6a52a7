from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridnode.core.addresses import Address
from gridnode.core.grants import Use
from gridnode.core.invitation import (
    MAX_LINK_ADDRESSES,
    MAX_LINK_CHARACTERS,
    Invitation,
    for_guest,
    for_member,
    from_link,
    to_link,
)
from gridnode.core.swarm_pass import SwarmPass
from gridnode.core.swarm_secret import SwarmKey

KEY = SwarmKey(seed=bytes(range(32)), made_s=1_790_000_000, older_until_s=1_790_000_000)
AT = (Address("192.0.2.7", 7338), Address("2001:db8::7", 9))
RELAYS = ("relay.example.org:7339", "[2001:db8::9]:7339", f"{'a' * 52}@192.0.2.8:7339")
NAMES = st.text(min_size=1, max_size=64)


def member(name: str = "home") -> SwarmPass:
    return SwarmPass(name=name, keys=(KEY,))


@given(name=NAMES, use=st.sampled_from(Use), until_s=st.integers(0, 2**35 - 1), at=st.sampled_from([(), AT]))
def test_a_link_is_read_as_it_was_written(name: str, use: Use, until_s: int, at: tuple[Address, ...]) -> None:
    for invitation in (
        Invitation(swarm=SwarmPass(name=name), addresses=at),
        Invitation(swarm=for_member(member(name)), relays=RELAYS),
        Invitation(
            swarm=for_guest(member(name), bytes(32), use=use, until_s=until_s), addresses=at, relays=RELAYS
        ),
    ):
        link = to_link(invitation)
        assert link.isascii()
        assert len(link) <= MAX_LINK_CHARACTERS
        assert from_link(f" {link}\n") == invitation


@given(st.data())
def test_a_damaged_link_is_noticed(data: st.DataObject) -> None:
    for invitation in (
        Invitation(swarm=for_member(member()), addresses=AT),
        Invitation(swarm=for_guest(member(), bytes(32), use=Use.CHAT, until_s=9), addresses=AT),
    ):
        head, _, rest = to_link(invitation).rpartition("/")
        payload, _, query = rest.partition("?")
        place = data.draw(st.integers(0, len(payload) - 2))  # the last one holds spare bits
        character = data.draw(st.sampled_from("Ab3-_"))
        changed = payload[:place] + character + payload[place + 1 :]
        for damaged in {payload[:place], payload + "AAAA", changed} - {payload}:
            with pytest.raises(ValueError, match="damaged"):
                from_link(f"{head}/{damaged}?{query}")


def test_a_link_that_lost_its_end_is_not_one_of_a_public_swarm() -> None:
    link = to_link(Invitation(swarm=for_member(member())))
    for end in range(len(link)):
        with pytest.raises(ValueError, match="invitation"):
            from_link(link[:end])


@given(st.text(max_size=200))
def test_other_text_is_no_link_and_breaks_nothing(text: str) -> None:
    for candidate in (text, f"gridnode://{text}", f"gridnode://home/{text}"):
        found = None
        with contextlib.suppress(ValueError):
            found = from_link(candidate)
        assert found is None or not found.swarm.is_private


def test_the_link_of_another_name_does_not_fit() -> None:
    with pytest.raises(ValueError, match="checksum"):
        from_link(to_link(Invitation(swarm=for_member(member()))).replace("home", "lab"))


def test_a_guest_gets_no_swarm_key_and_a_member_only_the_newest() -> None:
    newer = SwarmKey(seed=b"x" * 32, made_s=KEY.made_s + 1, older_until_s=KEY.made_s + 100)
    inviter = member().with_key(newer)
    guest = for_guest(inviter, b"g" * 32, use=Use.SERVE, until_s=10**10)
    assert guest.keys == ()
    assert guest.ticket is not None
    assert guest.ticket.swarm_public_key == newer.public_key
    [key] = from_link(to_link(Invitation(swarm=for_member(inviter)))).swarm.keys
    assert key.seed == newer.seed


def test_some_addresses_are_enough() -> None:
    many = tuple(Address("192.0.2.7", port) for port in range(1, 30))
    assert (
        from_link(to_link(Invitation(swarm=for_member(member()), addresses=many))).addresses
        == many[:MAX_LINK_ADDRESSES]
    )


def test_a_link_of_a_newer_gridnode_is_told_from_a_damaged_one() -> None:
    import base64

    from gridnode.core.invitation import _checksum

    payload = bytes([9]) + b"what comes"
    text = base64.urlsafe_b64encode(payload + _checksum("home", payload)).decode().rstrip("=")
    with pytest.raises(ValueError, match="made by a newer gridnode"):
        from_link(f"gridnode://home/{text}")
