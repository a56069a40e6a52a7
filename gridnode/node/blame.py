"""Errors that name the hop at fault: for people, and for the choice of another route."""

from __future__ import annotations

from collections.abc import Collection

from gridnode.core.ids import short
from gridnode.core.routing import Hop
from gridnode.errors import ErrorCode, PeerRefused
from gridnode.wire.messages import Refused


def blame(hop: Hop, what: str, reason: ErrorCode) -> PeerRefused:
    """Return the error that `hop` did `what`."""
    text = f"node {short(hop.peer_id)} with blocks {hop.span} {what}"
    return PeerRefused(text, reason=reason, peer_id=hop.peer_id)


def gone(hop: Hop, why: object) -> PeerRefused:
    """Return the error that nothing comes from `hop` any more."""
    return blame(hop, f"is gone: {why}", ErrorCode.PEER_LOST)


def nonsense(hop: Hop, what: object) -> PeerRefused:
    """Return the error that `hop` said something else than it may."""
    return blame(hop, f"broke the protocol: {what}", ErrorCode.PROTOCOL)


def refused(hop: Hop, message: Refused, others: Collection[Hop] = ()) -> PeerRefused:
    """Return the error that `hop` told.

    Args:
        others: Hops of the same route, which it may blame; a node that serves nothing there is not avoided.
    """
    error = blame(hop, f"answered {message.code}: {message.text}", message.code)
    is_known = any(message.blamed == other.peer_id for other in others)
    peer_id = message.blamed if message.blamed and is_known else hop.peer_id
    return PeerRefused(str(error), reason=message.code, peer_id=peer_id)
