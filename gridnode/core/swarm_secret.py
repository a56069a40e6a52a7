"""What a swarm is called where strangers listen, and the key from which that follows.

A private swarm has a key: an Ed25519 key pair (RFC 8032). Whoever holds its private half is a member for
good, and may invite others; guests get the public half and a grant, see `gridnode.core.grants`. The public
half is as secret as the other one towards strangers: from it and the name follow the ids under which the
swarm is found.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SWARM_KEY_BYTES = 32
"""Of either half of a swarm key."""

OPAQUE_ID_BYTES = 16
# Whoever was away for longer needs a new invitation.
MAX_GRACE_S = 90 * 86400
# A thousand years from now.
MAX_TIME_S = 2**35

Purpose = Literal["lan", "link", "relay"]
"""Who reads an opaque id: everybody on the LAN, who is dialled, or a relay."""


def opaque_id(name: str, public_key: bytes, *, purpose: Purpose, about: bytes = b"") -> bytes:
    """Return 16 bytes that mean something only to those who know name and key of a swarm.

    Ids of different purposes, or about different things, cannot be linked without the key. Of a public
    swarm, everybody who guesses its name can check the guess.

    Args:
        name: Name of the swarm.
        public_key: Public half of its key; empty for a public swarm.
        purpose: Where it is used.
        about: What else it depends on, such as the hash of a model.
    """
    said = b"".join(
        len(part).to_bytes(4, "big") + part
        for part in (b"gridnode swarm 2", purpose.encode(), name.encode(), about)
    )
    return hmac.digest(public_key, said, hashlib.sha256)[:OPAQUE_ID_BYTES]


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmKey:
    """The key of a private swarm, of which there are several while it is being replaced."""

    seed: bytes = field(repr=False)
    """Private half: 32 random bytes (RFC 8032, 5.1.5)."""

    made_s: int
    """When it was made, in seconds since 1970. Of two keys the later one counts."""

    older_until_s: int
    """Until when keys that were made before it are accepted beside it."""

    def __post_init__(self) -> None:
        if len(self.seed) != SWARM_KEY_BYTES:
            raise ValueError(f"a swarm key has {SWARM_KEY_BYTES} bytes, got {len(self.seed)}")
        if not 0 <= self.made_s < MAX_TIME_S:
            raise ValueError(f"a swarm key made at {self.made_s} s")
        if not 0 <= self.older_until_s - self.made_s <= MAX_GRACE_S:
            raise ValueError(f"older keys are accepted for 0..{MAX_GRACE_S} s beside a new one")

    @property
    def public_key(self) -> bytes:
        """The public half."""
        return public_half(self.seed)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of `message`."""
        return sign_with(self.seed, message)


# Computing it takes a tenth of a millisecond, and every look at a link asks for it.
@functools.lru_cache(maxsize=64)
def public_half(seed: bytes) -> bytes:
    """Return the public half of the Ed25519 key whose private half is `seed`."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def sign_with(seed: bytes, message: bytes) -> bytes:
    """Return the 64-byte Ed25519 signature of `message` by the key whose private half is `seed`."""
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)
