from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridnode.core.grants import Use, is_granted, make_ticket
from gridnode.core.swarm_secret import SwarmKey, public_half

KEY = SwarmKey(seed=bytes(range(32)), made_s=1000, older_until_s=1000)
OTHER = SwarmKey(seed=bytes(32), made_s=1000, older_until_s=1000)
GUEST = bytes(range(100, 132))


@given(use=st.sampled_from(Use), until_s=st.integers(0, 2**35 - 1))
def test_a_grant_holds_for_the_swarm_that_made_it_and_no_other(use: Use, until_s: int) -> None:
    grant = make_ticket(KEY, GUEST, use=use, until_s=until_s).grant
    assert (grant.use, grant.until_s, grant.public_key) == (use, until_s, public_half(GUEST))
    assert is_granted(grant, KEY.public_key)
    assert not is_granted(grant, OTHER.public_key)


@given(later_s=st.integers(1, 10**9))
def test_a_guest_cannot_change_what_it_was_granted(later_s: int) -> None:
    grant = make_ticket(KEY, GUEST, use=Use.CHAT, until_s=5000).grant
    for forged in (
        replace(grant, until_s=grant.until_s + later_s),
        replace(grant, use=Use.SERVE),
        replace(grant, public_key=OTHER.public_key),
        replace(grant, signature=bytes(64)),
    ):
        assert not is_granted(forged, KEY.public_key)


def test_a_ticket_that_does_not_fit_together_is_refused() -> None:
    ticket = make_ticket(KEY, GUEST, use=Use.CHAT, until_s=5000)
    with pytest.raises(ValueError, match="for another key"):
        replace(ticket, seed=bytes(32))
    with pytest.raises(ValueError, match="not signed"):
        replace(ticket, swarm_public_key=OTHER.public_key)
    with pytest.raises(ValueError, match="wrong length"):
        replace(ticket, seed=b"short")


def test_a_ticket_does_not_show_its_secret() -> None:
    shown = repr(make_ticket(KEY, GUEST, use=Use.CHAT, until_s=5000))
    assert repr(GUEST) not in shown
    assert GUEST.hex() not in shown
