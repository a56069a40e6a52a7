"""Signed announcements: Ed25519 (RFC 8032) over a domain prefix and the packed record."""

from __future__ import annotations

from collections.abc import Callable

import msgpack
import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gridnode.core.announcements import Announcement
from gridnode.core.ids import short
from gridnode.errors import ProtocolError, Unauthentic
from gridnode.wire.messages import MAX_ANNOUNCEMENT_BYTES, SignedAnnouncement

# A signature made for one purpose must not be valid for another.
_DOMAIN = b"gridnode announcement 1\0"


def sign_announcement(announcement: Announcement, sign: Callable[[bytes], bytes]) -> SignedAnnouncement:
    """Return `announcement` packed and signed by its peer's key.

    Args:
        sign: Returns the 64-byte Ed25519 signature of its argument.

    Raises:
        ValueError: the packed record exceeds `MAX_ANNOUNCEMENT_BYTES`.
    """
    payload: bytes = msgpack.packb(msgspec.to_builtins(announcement, builtin_types=(bytes,)))
    if len(payload) > MAX_ANNOUNCEMENT_BYTES:
        raise ValueError(f"announcement of {len(payload)} bytes, at most {MAX_ANNOUNCEMENT_BYTES}")
    return SignedAnnouncement(
        payload=payload, peer_id=announcement.peer_id, signature=sign(_DOMAIN + payload)
    )


def verify_announcement(signed: SignedAnnouncement) -> Announcement:
    """Return the announcement if its peer signed it.

    Raises:
        Unauthentic: the signature is wrong, or the record speaks of another peer.
        ProtocolError: the record is not an announcement.
    """
    try:
        Ed25519PublicKey.from_public_bytes(signed.peer_id).verify(signed.signature, _DOMAIN + signed.payload)
    except (InvalidSignature, ValueError) as exc:
        raise Unauthentic(f"announcement of {short(signed.peer_id)} has a wrong signature") from exc
    try:
        announcement = msgspec.convert(msgpack.unpackb(signed.payload, max_ext_len=0), Announcement)
    except (msgspec.ValidationError, ValueError, RecursionError, msgpack.StackError) as exc:
        raise ProtocolError(f"announcement of {short(signed.peer_id)} is malformed: {exc}") from exc
    if announcement.peer_id != signed.peer_id:
        raise Unauthentic(f"{short(signed.peer_id)} signed an announcement of {short(announcement.peer_id)}")
    return announcement
