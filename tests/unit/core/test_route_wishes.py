from dataclasses import replace

import pytest
from routing_peers import REQUEST, A, B, C, peer

from gridnode.core.announcements import Announcement
from gridnode.core.ids import PeerId, show_peer
from gridnode.core.route_wishes import ANYWHERE, RouteWishes
from gridnode.core.routing import RouteRequest
from gridnode.errors import BadInput, NoCapacity

ADA, BO = replace(peer(A, 0, 3), public_name="Ada"), replace(peer(B, 3, 6), public_name="Bo")


def limited(wishes: RouteWishes, *announcements: Announcement, me: PeerId = C) -> RouteRequest:
    return wishes.limit(REQUEST, announcements or (ADA, BO), me=me)


def test_no_wishes_limit_nothing() -> None:
    assert limited(ANYWHERE) == REQUEST


def test_nodes_are_named_by_public_name_or_beginning_of_the_id() -> None:
    assert limited(RouteWishes(allow=("Ada",))).allowed == {A}
    assert limited(RouteWishes(allow=(show_peer(B)[:8].upper(),))).allowed == {B}
    assert limited(RouteWishes(block=("Bo",))).blocked == {B}
    assert limited(RouteWishes(route=("Bo", "Ada"))).pinned == (B, A)


def test_an_allowed_node_that_is_not_there_leaves_nobody_else() -> None:
    assert limited(RouteWishes(allow=("Cem",))).allowed == frozenset()


def test_a_node_of_the_route_must_be_there_and_be_one() -> None:
    with pytest.raises(NoCapacity, match="'Cem', which serves nothing of this model now"):
        limited(RouteWishes(route=("Cem",)))
    with pytest.raises(BadInput, match="'Ada' fits several nodes, give more of the id"):
        limited(RouteWishes(route=("Ada",)), ADA, replace(BO, public_name="Ada"))


def test_private_means_this_node_and_those_that_were_named_by_their_ids() -> None:
    assert limited(RouteWishes(private=True)).home == {C}
    assert limited(RouteWishes(private=True, home=(show_peer(A)[:16],))).home == {A, C}


def test_nobody_gets_home_by_a_name() -> None:
    stranger = replace(BO, public_name=show_peer(A)[:20])
    assert limited(RouteWishes(private=True, home=(show_peer(A)[:20],)), stranger).home == {C}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"home": ("a" * 16,)}, "set private too"),
        ({"private": True, "home": ("ada",)}, "at least 16 characters"),
        ({"route": ("Ada", "Ada")}, "name it once"),
        ({"allow": ("",)}, "1 to 64 characters"),
        ({"block": tuple(map(str, range(65)))}, "65 nodes named, at most 64"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(fields: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        RouteWishes(**fields)  # type: ignore[arg-type]
