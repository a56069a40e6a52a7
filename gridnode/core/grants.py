"""What a swarm allows a guest: signed with the swarm key, for one key of the guest, until some time."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import StrEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gridnode.core.swarm_secret import MAX_TIME_S, SWARM_KEY_BYTES, SwarmKey, public_half

SIGNATURE_BYTES = 64
# A signature made for one purpose must not be valid for another.
_DOMAIN = b"gridnode grant 1\0"
_USES = ("chat", "serve")


class Use(StrEnum):
    """What a guest may do."""

    CHAT = "chat"
    """Open sessions on the blocks of others; its own blocks are not used."""

    SERVE = "serve"
    """What members do, except inviting others and following a new key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A statement of the swarm key about a guest's key."""

    public_key: bytes
    """Public half of the guest's key (Ed25519). Of the invitation, not of a node: a guest may use several."""

    use: Use
    until_s: int
    """When it ends, in seconds since 1970."""

    signature: bytes
    """By the swarm key."""

    def __post_init__(self) -> None:
        if len(self.public_key) != SWARM_KEY_BYTES or len(self.signature) != SIGNATURE_BYTES:
            raise ValueError("a grant with a key or a signature of a wrong length")
        if not 0 <= self.until_s < MAX_TIME_S:
            raise ValueError(f"a grant until {self.until_s} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What a guest holds instead of the swarm key."""

    swarm_public_key: bytes
    """Public half of the swarm key: it finds the swarm, and tells its members from others."""

    seed: bytes = field(repr=False)
    """Private half of the guest's key."""

    grant: Grant

    def __post_init__(self) -> None:
        if {len(self.swarm_public_key), len(self.seed)} != {SWARM_KEY_BYTES}:
            raise ValueError("an invitation with a key of a wrong length")
        if public_half(self.seed) != self.grant.public_key:
            raise ValueError("an invitation whose grant is for another key")
        if not is_granted(self.grant, self.swarm_public_key):
            raise ValueError("an invitation that the swarm key has not signed")


def make_ticket(key: SwarmKey, seed: bytes, *, use: Use, until_s: int) -> Ticket:
    """Return what a guest with the private half `seed` needs. The seed must be random, and new."""
    public_key = public_half(seed)
    grant = Grant(
        public_key=public_key, use=use, until_s=until_s, signature=key.sign(_said(public_key, use, until_s))
    )
    return Ticket(swarm_public_key=key.public_key, seed=seed, grant=grant)


def is_granted(grant: Grant, swarm_public_key: bytes) -> bool:
    """Return whether the swarm key signed `grant`; its time is not looked at."""
    return is_signed(swarm_public_key, grant.signature, _said(grant.public_key, grant.use, grant.until_s))


def is_signed(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether `signature` is that of `message` by the Ed25519 key `public_key`."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _said(public_key: bytes, use: Use, until_s: int) -> bytes:
    return _DOMAIN + struct.pack("!BQ", _USES.index(use), until_s) + public_key
