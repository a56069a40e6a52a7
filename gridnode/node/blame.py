"""Errors that name the hop at fault: for people, and for the choice of another route."""

from __future__ import annotations

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


def refused(hop: Hop, message: Refused) -> PeerRefused:
    """Return the error that `hop` told; it may blame a hop behind it."""
    error = blame(hop, f"answered {message.code}: {message.text}", message.code)
    return PeerRefused(str(error), reason=message.code, peer_id=message.blamed or hop.peer_id)
