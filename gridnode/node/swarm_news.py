"""What happened between two views of the swarm. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from gridnode.control.history import Activity, ActivityKind
from gridnode.core.announcements import Announcement, PeerState
from gridnode.core.ids import PeerId, show_peer
from gridnode.core.swarm import SwarmState


def swarm_news(before: SwarmState, after: SwarmState, *, me: PeerId, at: float) -> list[Activity]:
    """Return who joined, began to serve, left or was lost between two views; this node only as serving.

    Args:
        at: Time of the change, in seconds since 1970.
    """
    return [*_gone(before, after, me, at), *_came(before, after, me, at)]


def _gone(before: SwarmState, after: SwarmState, me: PeerId, at: float) -> Iterator[Activity]:
    for peer_id in sorted(before.peers.keys() - after.peers.keys() - {me}):
        last = before.peers[peer_id].announcement
        # A goodbye is an announcement, too: newer than the last one that counted.
        if after.sequences.get(peer_id, -1) > last.sequence:
            yield _activity("left", last, f"left the swarm{_held(last)}", at)
        else:
            yield _activity("lost", last, f"went silent{_held(last)}", at)


def _came(before: SwarmState, after: SwarmState, me: PeerId, at: float) -> Iterator[Activity]:
    for peer_id, peer in after.peers.items():
        new = peer.announcement
        known = before.peers.get(peer_id)
        if known is not None and known.announcement is new:
            continue
        if known is None and peer_id != me:
            yield _activity("joined", new, "joined the swarm", at)
        if _serves(new) and (known is None or _serves(known.announcement) != _serves(new)):
            yield _activity("serving", new, f"serves {_serves(new)}", at)


def _serves(announcement: Announcement) -> str:
    serving = announcement.serving
    if serving is None or announcement.state is not PeerState.ONLINE:
        return ""
    return f"blocks {serving.span} of {serving.model.name}"


def _held(announcement: Announcement) -> str:
    serves = _serves(announcement)
    return f"; it served {serves}" if serves else ""


def _activity(kind: ActivityKind, announcement: Announcement, text: str, at: float) -> Activity:
    return Activity(
        at=at,
        kind=kind,
        peer_id=show_peer(announcement.peer_id),
        public_name=announcement.public_name,
        text=text,
    )
