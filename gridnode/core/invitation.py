"""Links that let a node into a swarm: `gridnode://home/AX9...?at=192.0.2.7:7338`.

Whoever reads such a link may use it: it holds the swarm key, or a ticket, in base64 (RFC 4648, 5) with a
checksum, so that a link that was cut or mistyped is noticed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

from gridnode.core.addresses import Address, parse_address
from gridnode.core.grants import Grant, Ticket, Use, make_ticket
from gridnode.core.relays import RENDEZVOUS_RELAYS, parse_relay
from gridnode.core.swarm_pass import SwarmPass
from gridnode.core.swarm_secret import SwarmKey, public_half

SCHEME = "gridnode"
# A QR code with more is hard to read from a screen; one address that answers is enough.
MAX_LINK_ADDRESSES = 4
# As many as a swarm meets at.
MAX_LINK_RELAYS = RENDEZVOUS_RELAYS
# A ticket for a swarm with a long name, and a little more than we write.
MAX_LINK_CHARACTERS = 2000
_CHECKSUM_BYTES = 4
# A word, so that the link of a private swarm that lost its end is not one of a public swarm.
_PUBLIC = "public"
# What addresses and relays are made of.
_SAFE = ":,[]@"
_KEY: Final = 1
_TICKET: Final = 2
_KEY_FORM = struct.Struct("!32sQ")
_TICKET_FORM = struct.Struct("!32s32sBQ64s")
_USES = (Use.CHAT, Use.SERVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """What a link says."""

    swarm: SwarmPass
    addresses: tuple[Address, ...] = ()
    """Nodes of the swarm to connect to first."""

    relays: tuple[str, ...] = ()
    """Relays where the swarm meets, as people write them."""


def for_guest(inviter: SwarmPass, seed: bytes, *, use: Use, until_s: int) -> SwarmPass:
    """Return what a guest gets from a member who holds the swarm key.

    Args:
        seed: 32 random bytes, never used before.
    """
    ticket = make_ticket(inviter.keys[0], seed, use=use, until_s=until_s)
    return SwarmPass(name=inviter.name, ticket=ticket)


def for_member(inviter: SwarmPass) -> SwarmPass:
    """Return what a new member gets: the newest swarm key, or just the name of a public swarm."""
    return SwarmPass(name=inviter.name, keys=inviter.keys[:1])


def to_link(invitation: Invitation) -> str:
    """Return the link that says `invitation`."""
    link = f"{SCHEME}://{quote(invitation.swarm.name, safe='')}/{_written(invitation.swarm)}"
    said = {
        "at": ",".join(map(str, invitation.addresses[:MAX_LINK_ADDRESSES])),
        "relay": ",".join(invitation.relays[:MAX_LINK_RELAYS]),
    }
    query = "&".join(f"{key}={quote(value, safe=_SAFE)}" for key, value in said.items() if value)
    return f"{link}?{query}" if query else link


def from_link(text: str) -> Invitation:
    """Return what a link says.

    Raises:
        ValueError: it is not a link of ours, or a damaged one. The text does not repeat the link.
    """
    text = text.strip()
    if len(text) > MAX_LINK_CHARACTERS or not text.startswith(f"{SCHEME}://"):
        raise ValueError(f"this is not an invitation; one looks like {SCHEME}://NAME/...")
    try:
        parts = urlsplit(text)
        name, said = unquote(parts.netloc, errors="strict"), parse_qs(parts.query)
        return Invitation(
            swarm=_read(name, parts.path.strip("/")),
            addresses=tuple(map(parse_address, _items(said, "at")[:MAX_LINK_ADDRESSES])),
            relays=tuple(str(parse_relay(text)) for text in _items(said, "relay")[:MAX_LINK_RELAYS]),
        )
    except (ValueError, binascii.Error, struct.error) as exc:
        raise ValueError(f"the invitation is damaged ({exc}); copy the whole link") from exc


def _items(said: dict[str, list[str]], key: str) -> list[str]:
    return [item for part in said.get(key, ()) for item in part.split(",")]


def _written(swarm: SwarmPass) -> str:
    if not swarm.is_private:
        return _PUBLIC
    payload = _payload(swarm)
    return base64.urlsafe_b64encode(payload + _checksum(swarm.name, payload)).decode().rstrip("=")


def _payload(swarm: SwarmPass) -> bytes:
    if swarm.ticket:
        grant = swarm.ticket.grant
        keys = swarm.ticket.swarm_public_key, swarm.ticket.seed
        use = _USES.index(grant.use)
        return bytes([_TICKET]) + _TICKET_FORM.pack(*keys, use, grant.until_s, grant.signature)
    return bytes([_KEY]) + _KEY_FORM.pack(swarm.keys[0].seed, swarm.keys[0].made_s)


def _read(name: str, text: str) -> SwarmPass:
    if text == _PUBLIC:
        return SwarmPass(name=name)
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    payload, checksum = raw[:-_CHECKSUM_BYTES], raw[-_CHECKSUM_BYTES:]
    if not payload or checksum != _checksum(name, payload):
        raise ValueError("its checksum is wrong")
    if payload[0] == _KEY:
        seed, made_s = _KEY_FORM.unpack(payload[1:])
        return SwarmPass(name=name, keys=(SwarmKey(seed=seed, made_s=made_s, older_until_s=made_s),))
    if payload[0] != _TICKET:
        raise ValueError("it was made by a newer gridnode")
    swarm_public_key, seed, use, until_s, signature = _TICKET_FORM.unpack(payload[1:])
    if use >= len(_USES):
        raise ValueError("it was made by a newer gridnode")
    grant = Grant(public_key=public_half(seed), use=_USES[use], until_s=until_s, signature=signature)
    return SwarmPass(name=name, ticket=Ticket(swarm_public_key=swarm_public_key, seed=seed, grant=grant))


def _checksum(name: str, payload: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + payload).digest()[:_CHECKSUM_BYTES]
