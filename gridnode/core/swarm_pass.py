"""What a node holds of its swarm: the name, and a key or a ticket if it is private. Pure.

Peers prove to each other, right after the handshake of their connection, that they belong to the swarm. Each
signs the other one's nonce, both peer ids and the id of the swarm; TLS has proven the peer ids, so that a
proof is of no use to anybody else, on no other connection, and never again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gridnode.core.grants import SIGNATURE_BYTES, Grant, Ticket, Use, is_granted, is_signed
from gridnode.core.ids import MAX_SWARM_NAME_CHARACTERS, PeerId
from gridnode.core.swarm_secret import (
    OPAQUE_ID_BYTES,
    Purpose,
    SwarmKey,
    opaque_id,
    sign_with,
)
from gridnode.errors import SwarmRefused
from gridnode.units import format_time

NONCE_BYTES = 32
# More than anybody replaces within `MAX_GRACE_S`; the oldest are dropped.
MAX_SWARM_KEYS = 8
# A new key from the future could not be replaced until then; clocks differ by some minutes.
MAX_KEY_AHEAD_S = 300
_DOMAIN = b"gridnode member 1\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """Who proves something to whom, and what makes it unlike every other time."""

    prover: PeerId
    verifier: PeerId
    nonce: bytes
    """Chosen by the verifier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmProof:
    """A signature that only a member or a guest can make."""

    swarm: bytes
    """Opaque id of the swarm under which it was made."""

    signature: bytes
    grant: Grant | None = None
    """Of a guest; members sign with the swarm key itself."""

    def __post_init__(self) -> None:
        if len(self.swarm) != OPAQUE_ID_BYTES or len(self.signature) != SIGNATURE_BYTES:
            raise ValueError("a proof with an id or a signature of a wrong length")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a peer has proven."""

    public_key: bytes = b""
    """Public half of the swarm key under which it did; empty in a public swarm."""

    grant: Grant | None = None

    @property
    def holds_key(self) -> bool:
        """Whether it is a member of a private swarm, for good."""
        return bool(self.public_key) and self.grant is None

    @property
    def may_serve(self) -> bool:
        """Whether its blocks may be used."""
        return self.grant is None or self.grant.use is Use.SERVE


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmPass:
    """What a node holds of its swarm."""

    name: str
    keys: tuple[SwarmKey, ...] = ()
    """Newest first; empty in a public swarm, and for a guest."""

    ticket: Ticket | None = None
    """Of a guest."""

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= MAX_SWARM_NAME_CHARACTERS:
            raise ValueError(f"the name of a swarm has 1..{MAX_SWARM_NAME_CHARACTERS} characters")
        if self.keys and self.ticket:
            raise ValueError("a member needs no invitation")

    @property
    def is_private(self) -> bool:
        """Whether the swarm has a key."""
        return bool(self.keys or self.ticket)

    @property
    def may_serve(self) -> bool:
        """Whether others use the blocks of this node."""
        return self.ticket is None or self.ticket.grant.use is Use.SERVE

    def public_keys(self, *, now_s: float) -> tuple[bytes, ...]:
        """Return the public halves of the swarm keys that count now, newest first; none if it is public."""
        if self.ticket:
            return (self.ticket.swarm_public_key,)
        return tuple(key.public_key for key in self._accepted(now_s))

    def ids(self, purpose: Purpose, *, now_s: float, about: bytes = b"") -> tuple[bytes, ...]:
        """Return the opaque ids of the swarm, newest first: several while its key is being replaced."""
        keys = self.public_keys(now_s=now_s) if self.is_private else (b"",)
        return tuple(opaque_id(self.name, key, purpose=purpose, about=about) for key in keys)

    def prove(self, challenge: Challenge, *, public_key: bytes) -> SwarmProof:
        """Return the proof that this node belongs to the swarm with this key, which must be one of ours."""
        swarm = opaque_id(self.name, public_key, purpose="link")
        said = _said(challenge, swarm)
        if self.ticket:
            signature = sign_with(self.ticket.seed, said)
            return SwarmProof(swarm=swarm, signature=signature, grant=self.ticket.grant)
        [key] = (key for key in self.keys if key.public_key == public_key)
        return SwarmProof(swarm=swarm, signature=key.sign(said))

    def check(self, proof: SwarmProof, challenge: Challenge, *, public_key: bytes, now_s: float) -> Standing:
        """Return what `proof` proves.

        Raises:
            SwarmRefused: it proves nothing, or the invitation has expired.
        """
        swarm = opaque_id(self.name, public_key, purpose="link")
        grant = proof.grant
        if grant and not is_granted(grant, public_key):
            raise SwarmRefused("the invitation is not signed with the swarm key")
        signer = grant.public_key if grant else public_key
        if proof.swarm != swarm or not is_signed(signer, proof.signature, _said(challenge, swarm)):
            raise SwarmRefused("the proof was not made with the swarm key: it is another one")
        if grant and now_s >= grant.until_s:
            ended = format_time(grant.until_s)
            raise SwarmRefused(f"the invitation expired at {ended}; ask a member of the swarm for a new one")
        return Standing(public_key=public_key, grant=grant)

    def accepts(self, standing: Standing, *, now_s: float) -> bool:
        """Return whether what a peer has proven still counts."""
        if not self.is_private:
            return True
        is_current = standing.public_key in self.public_keys(now_s=now_s)
        return is_current and (standing.grant is None or now_s < standing.grant.until_s)

    def with_key(self, key: SwarmKey) -> SwarmPass:
        """Return the pass of a member that has learnt of a new key."""
        if any(known.seed == key.seed for known in self.keys):
            return self
        keys = sorted((key, *self.keys), key=lambda item: (item.made_s, item.seed), reverse=True)
        return replace(self, keys=tuple(keys[:MAX_SWARM_KEYS]))

    def follow(self, key: SwarmKey, *, teller: Standing, now_s: float) -> SwarmPass:
        """Return the pass after a peer told of a new key.

        Only members with the present key are believed: whoever holds an older one may be the reason why it
        was replaced.

        Raises:
            SwarmRefused: the peer may not say so, or the key cannot be newer than ours.
        """
        present = self.keys[0] if self.keys else None
        if present is None or not teller.holds_key or teller.public_key != present.public_key:
            raise SwarmRefused("only members with the present swarm key may bring a new one")
        if not present.made_s < key.made_s <= now_s + MAX_KEY_AHEAD_S:
            raise SwarmRefused(
                f"a new swarm key made at {format_time(key.made_s)} cannot replace that of "
                f"{format_time(present.made_s)}"
            )
        if any(known.seed == key.seed for known in self.keys):
            raise SwarmRefused("a swarm key that is known already was brought as a new one")
        return self.with_key(key)

    def _accepted(self, now_s: float) -> list[SwarmKey]:
        found: list[SwarmKey] = []
        until_s = float("inf")
        for key in self.keys:
            if now_s < until_s:
                found.append(key)
            until_s = min(until_s, key.older_until_s)
        return found


def _said(challenge: Challenge, swarm: bytes) -> bytes:
    # All parts have fixed lengths.
    return _DOMAIN + challenge.prover + challenge.verifier + challenge.nonce + swarm
