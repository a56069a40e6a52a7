"""What lets into a swarm, as functions of bytes: invitations, grants and swarm passes; see `targets`."""

from __future__ import annotations

import base64
import contextlib
import hashlib

import msgspec

from gridnode.core.grants import Use
from gridnode.core.ids import PeerId
from gridnode.core.invitation import (
    MAX_LINK_ADDRESSES,
    MAX_LINK_CHARACTERS,
    MAX_LINK_RELAYS,
    SCHEME,
    Invitation,
    for_guest,
    from_link,
    to_link,
)
from gridnode.core.swarm_pass import (
    MAX_KEY_AHEAD_S,
    MAX_SWARM_KEYS,
    NONCE_BYTES,
    Challenge,
    Standing,
    SwarmPass,
)
from gridnode.core.swarm_secret import OPAQUE_ID_BYTES, SwarmKey
from gridnode.errors import ProtocolError, SwarmRefused
from gridnode.wire.frames import FrameDecoder
from gridnode.wire.messages import NewKey, Prove, decode_message

_NAME = "home"
_NOW_S = 1_790_000_000
_HOUR_S = 3600
_KEY = SwarmKey(seed=bytes(32), made_s=_NOW_S - _HOUR_S, older_until_s=_NOW_S - _HOUR_S)
_MEMBER = SwarmPass(name=_NAME, keys=(_KEY,))
_GUESTS = [
    for_guest(_MEMBER, bytes([number]) * 32, use=use, until_s=until_s)
    for number, (use, until_s) in enumerate([(Use.CHAT, _NOW_S + 1), (Use.SERVE, _NOW_S + 1), (Use.SERVE, 1)])
]
_CHALLENGE = Challenge(prover=PeerId(b"p" * 32), verifier=PeerId(b"v" * 32), nonce=bytes(range(NONCE_BYTES)))
PROOFS = [swarm.prove(_CHALLENGE, public_key=_KEY.public_key) for swarm in (_MEMBER, *_GUESTS)]
"""The only ones that exist; the last one has expired."""


def invitations(data: bytes) -> None:
    """A link as people paste it; from a first byte of 0 on, one whose checksum is right."""
    text = data.decode(errors="replace")
    if data[:1] == b"\0":
        payload, _, query = data[1:].partition(b"?")
        checksum = hashlib.sha256(_NAME.encode() + b"\0" + payload).digest()[:4]
        written = base64.urlsafe_b64encode(payload + checksum).decode().rstrip("=")
        text = f"{SCHEME}://{_NAME}/{written}?{query.decode(errors='replace')}"
    try:
        found = from_link(text)
    except ValueError:
        return
    assert len(text.strip()) <= MAX_LINK_CHARACTERS
    assert len(found.addresses) <= MAX_LINK_ADDRESSES
    assert len(found.relays) <= MAX_LINK_RELAYS
    assert from_link(to_link(found)) == found
    assert msgspec.json.decode(msgspec.json.encode(found), type=Invitation) == found


def grants(data: bytes) -> None:
    """What somebody says to be let into a private swarm: nothing lets in but what its key has signed."""
    try:
        found = [decode_message(frame) for frame in FrameDecoder().receive_data(data)]
    except ProtocolError:
        return
    for message in found:
        if isinstance(message, Prove):
            try:
                standing = _MEMBER.check(message.proof, _CHALLENGE, public_key=_KEY.public_key, now_s=_NOW_S)
            except SwarmRefused:
                continue
            assert message.proof in PROOFS[:-1]
            assert standing.holds_key is (message.proof.grant is None)
            assert _MEMBER.accepts(standing, now_s=_NOW_S)
            assert not standing.grant or not _MEMBER.accepts(standing, now_s=_NOW_S + 1)
        elif isinstance(message, NewKey):
            with contextlib.suppress(SwarmRefused):
                _check(_MEMBER.follow(message.key, teller=_member_with(_KEY), now_s=_NOW_S), now_s=_NOW_S)


def passes(data: bytes) -> None:
    """Keys that replace each other: three bytes are an event, a key, and the time that passed before."""
    swarm, now_s = _MEMBER, _NOW_S
    for i in range(0, len(data) - 2, 3):
        event, number = data[i] % 4, data[i + 1]
        now_s += data[i + 2] * 60
        # Most are made now, some long ago, some in the future.
        made_s = now_s + (number % 8 - 5) * MAX_KEY_AHEAD_S // 2
        key = SwarmKey(seed=bytes([number]) * 32, made_s=made_s, older_until_s=made_s + number * _HOUR_S)
        before = swarm.keys[0]
        if event == 0:
            with contextlib.suppress(SwarmRefused):
                swarm = swarm.follow(key, teller=_member_with(before), now_s=now_s)
                assert swarm.keys[0].made_s > before.made_s
        elif event == 1:
            with contextlib.suppress(SwarmRefused):
                swarm.follow(key, teller=_member_with(swarm.keys[-1]), now_s=now_s)
                assert swarm.keys[-1].public_key == before.public_key, "an old key brings no new one"
        elif event == 2:
            swarm = swarm.with_key(key)
        else:
            swarm = msgspec.json.decode(msgspec.json.encode(swarm), type=SwarmPass)
        _check(swarm, now_s=now_s)


def _member_with(key: SwarmKey) -> Standing:
    return Standing(public_key=key.public_key)


def _check(swarm: SwarmPass, *, now_s: int) -> None:
    assert 0 < len(swarm.keys) <= MAX_SWARM_KEYS
    made_s = [key.made_s for key in swarm.keys]
    assert made_s == sorted(made_s, reverse=True)
    assert len({key.seed for key in swarm.keys}) == len(swarm.keys)
    accepted = swarm.public_keys(now_s=now_s)
    assert accepted[0] == swarm.keys[0].public_key, "the newest key always counts"
    assert all(len(found) == OPAQUE_ID_BYTES for found in swarm.ids("link", now_s=now_s))
    assert swarm.accepts(_member_with(swarm.keys[0]), now_s=now_s)
