"""What somebody who asks wants of the route: which nodes, in the words of people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gridnode.core.announcements import Announcement
from gridnode.core.ids import PeerId, show_peer
from gridnode.core.routing import RouteRequest
from gridnode.errors import BadInput, NoCapacity

# As many as a long route has; each is compared with every node of the swarm.
MAX_NAMED_PEERS = 64
# 80 bits: a stranger can make a key whose id begins with eight given characters, but not with sixteen.
MIN_HOME_CHARACTERS = 16
MAX_NAME_CHARACTERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteWishes:
    """Which nodes may compute. A name is the public name of a node, or the beginning of its id.

    Public names are free to choose, also for strangers; where it matters, give ids.
    """

    route: tuple[str, ...] = ()
    """The nodes of the route in their order, and no others."""

    allow: tuple[str, ...] = ()
    """The only nodes to use; empty allows all."""

    block: tuple[str, ...] = ()
    """Nodes not to use."""

    private: bool = False
    """Whether the first and the last block of the model must be computed at home: on this node, or on one
    of `home`. What they see is close to the text; what is between them sees hidden states only."""

    home: tuple[str, ...] = ()
    """Other nodes that count as home, by at least sixteen characters of their ids."""

    def __post_init__(self) -> None:
        for names in (self.route, self.allow, self.block, self.home):
            if len(names) > MAX_NAMED_PEERS:
                raise ValueError(f"{len(names)} nodes named, at most {MAX_NAMED_PEERS}")
            if not all(0 < len(name) <= MAX_NAME_CHARACTERS for name in names):
                raise ValueError(f"a node's name has 1 to {MAX_NAME_CHARACTERS} characters")
        if len(set(self.route)) != len(self.route):
            raise ValueError("a node computes one span of an answer: name it once in the route")
        if self.home and not self.private:
            raise ValueError("home says which nodes may see the text of private requests; set private too")
        for name in self.home:
            if len(name) < MIN_HOME_CHARACTERS:
                raise ValueError(
                    f"home needs at least {MIN_HOME_CHARACTERS} characters of a node's id, got {name!r}: "
                    "anybody can call a node by a name, or make an id that begins like another one"
                )

    def limit(
        self, request: RouteRequest, announcements: Iterable[Announcement], *, me: PeerId
    ) -> RouteRequest:
        """Return `request` for the peers that these wishes leave now.

        Args:
            announcements: Of those who serve the model.

        Raises:
            NoCapacity: a node of `route` is not there.
            BadInput: a name of `route` fits several nodes.
        """
        everyone = tuple(announcements)
        return replace(
            request,
            blocked=_named_any(self.block, everyone),
            allowed=_named_any(self.allow, everyone) if self.allow else request.allowed,
            home=_with_ids(self.home, everyone) | {me} if self.private else request.home,
            pinned=tuple(_named_one(name, everyone) for name in self.route) or request.pinned,
        )


ANYWHERE = RouteWishes()


def is_called(announcement: Announcement, name: str) -> bool:
    """Return whether `name` is the public name of a node, or the beginning of its id."""
    return announcement.public_name == name or _has_id(announcement, name)


def _has_id(announcement: Announcement, name: str) -> bool:
    return show_peer(announcement.peer_id).startswith(name.lower())


def _with_ids(names: Iterable[str], announcements: Iterable[Announcement]) -> frozenset[PeerId]:
    return frozenset(ann.peer_id for ann in announcements for name in names if _has_id(ann, name))


def _named_any(names: Iterable[str], announcements: Iterable[Announcement]) -> frozenset[PeerId]:
    return frozenset(ann.peer_id for ann in announcements for name in names if is_called(ann, name))


def _named_one(name: str, announcements: Iterable[Announcement]) -> PeerId:
    found = [ann.peer_id for ann in announcements if is_called(ann, name)]
    if not found:
        raise NoCapacity(f"the route wants node {name!r}, which serves nothing of this model now")
    if len(found) > 1:
        known = ", ".join(show_peer(peer_id)[:MIN_HOME_CHARACTERS] for peer_id in found)
        raise BadInput(f"{name!r} fits several nodes, give more of the id: {known}")
    return found[0]
