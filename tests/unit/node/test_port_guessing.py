"""Who guesses at whose ports."""

from __future__ import annotations

import pytest

from gridnode.core.addresses import Address
from gridnode.node.port_guessing import changing_host, guessing_address

EASY = (Address("192.0.2.1", 7338),)
SYMMETRIC = (Address("192.0.2.2", 41000), Address("192.0.2.2", 52000))
SIX = (Address("2001:db8::1", 7338),)


@pytest.mark.parametrize(
    ("observed", "host"),
    [
        ((), None),
        (EASY, None),
        (EASY + SIX, None),
        ((*EASY, Address("192.0.2.9", 7338)), None),
        (SYMMETRIC, "192.0.2.2"),
        (SIX + SYMMETRIC, "192.0.2.2"),
    ],
    ids=["unseen", "easy", "two families", "two lines", "symmetric", "symmetric in one family"],
)
def test_a_router_that_relays_see_at_several_ports_of_one_address_is_symmetric(
    observed: tuple[Address, ...], host: str | None
) -> None:
    assert changing_host(observed) == host


@pytest.mark.parametrize(
    ("own", "peers", "source"),
    [
        (SYMMETRIC, EASY, EASY[0]),
        (SYMMETRIC, SIX + EASY, EASY[0]),
        (SYMMETRIC, SIX, None),
        (SYMMETRIC, SYMMETRIC, None),
        (SYMMETRIC, (), None),
        (EASY, SYMMETRIC, None),
        (EASY, EASY, None),
    ],
)
def test_only_a_symmetric_side_is_guessed_at_and_only_by_an_easy_one(
    own: tuple[Address, ...], peers: tuple[Address, ...], source: Address | None
) -> None:
    assert guessing_address(own, peers) == source
