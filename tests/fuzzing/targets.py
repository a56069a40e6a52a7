"""Readers of what strangers send, as functions of bytes, for the fuzzer and the tests.

A target returns if the bytes are fine or are refused with the error that its contract names. Any other
exception is a finding, and so is a broken promise: more memory than the limit, or another meaning
after writing what was read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fuzzing.swarm_targets import grants, invitations, passes

from gridnode.core.ids import PeerId
from gridnode.core.relays import TAG_BYTES, parse_relay
from gridnode.errors import ProtocolError, Unauthentic
from gridnode.net.carrier import PathKind
from gridnode.net.identity import Identity
from gridnode.net.paths import MAX_ROUTES, PeerPaths, Sending
from gridnode.wire import signing
from gridnode.wire.codec import encode_message
from gridnode.wire.credit import CREDIT_BYTES, MAX_CREDIT_BYTES
from gridnode.wire.frames import MAX_FRAME_BYTES, FrameDecoder, encode_frame
from gridnode.wire.messages import MAX_ANNOUNCEMENT_BYTES, SignedAnnouncement, decode_message
from gridnode.wire.relay_messages import decode_relay_message
from gridnode.wire.relay_packets import (
    SECRET_BYTES,
    absent,
    forward,
    forwarded,
    make_probe,
    parse_probe,
    parse_relayed,
)
from gridnode.wire.stream import StreamProtocol

# Always the same one: what it says of itself is in the corpus.
_IDENTITY = Identity.from_key(Ed25519PrivateKey.from_private_bytes(bytes(32)))
_PROBE_SECRET = bytes(SECRET_BYTES)
# Frames of a fuzzer are short; what they claim to be need not be.
_SMALL_FRAME_BYTES = 4096


def frames(data: bytes) -> None:
    """Frames in pieces: the first byte is the size of a piece."""
    if not data:
        return
    step, data = data[0] + 1, data[1:]
    decoder = FrameDecoder(max_frame_bytes=_SMALL_FRAME_BYTES)
    found = []
    try:
        for start in range(0, len(data), step):
            found += decoder.receive_data(data[start : start + step])
            assert decoder.buffered_bytes <= _SMALL_FRAME_BYTES + step
    except ProtocolError:
        pass
    again = FrameDecoder()
    for frame in found:
        (read,) = again.receive_data(b"".join(encode_frame(frame)))
        assert repr(read) == repr(frame)  # NaN is not equal to itself


def stream(data: bytes) -> None:
    """One side of a stream: frames, credit, the end."""
    protocol = StreamProtocol()
    try:
        protocol.receive_data(data)
        while protocol.next_frame() is not None:
            protocol.data_to_send()
    except ProtocolError:
        return
    assert protocol.buffered_bytes <= CREDIT_BYTES + MAX_FRAME_BYTES
    assert protocol._send_credit.available_bytes <= MAX_CREDIT_BYTES


def messages(data: bytes) -> None:
    """What a frame means; what was understood is understood again after writing it."""
    try:
        for frame in FrameDecoder().receive_data(data):
            message = decode_message(frame)
            written = b"".join(encode_frame(encode_message(message, frame.body)))
            (again,) = FrameDecoder().receive_data(written)
            assert repr(decode_message(again)) == repr(message)  # NaN is not equal to itself
    except ProtocolError:
        pass


def announcements(data: bytes) -> None:
    """An announcement that its peer has signed, whatever it says."""
    payload = data[:MAX_ANNOUNCEMENT_BYTES]
    signed = SignedAnnouncement(
        payload=payload,
        peer_id=PeerId(_IDENTITY.peer_id),
        signature=_IDENTITY.sign(signing._DOMAIN + payload),
    )
    try:
        announcement = signing.verify_announcement(signed)
    except (ProtocolError, Unauthentic):
        return
    assert announcement.peer_id == _IDENTITY.peer_id
    assert repr(signing.verify_announcement(signing.sign_announcement(announcement, _IDENTITY.sign))) == repr(
        announcement
    )


def relay_messages(data: bytes) -> None:
    """What nodes and relays say to each other, and how relays are written."""
    try:
        for frame in FrameDecoder().receive_data(data):
            message = decode_relay_message(frame)
            written = b"".join(encode_frame(encode_message(message, frame.body)))
            (again,) = FrameDecoder().receive_data(written)
            assert decode_relay_message(again) == message
    except ProtocolError:
        pass
    with contextlib.suppress(ValueError):
        relay = parse_relay(data.decode(errors="replace"))
        assert parse_relay(str(relay)) == relay


def packets(data: bytes) -> None:
    """Packets beside QUIC; those that mean something are written again as they came."""
    if not data:
        return
    relayed, probe = parse_relayed(data), parse_probe(data)
    if relayed is not None:
        write = {"D": forward, "d": forwarded, "x": lambda tag, _: absent(tag)}[relayed.kind]
        assert write(relayed.tag, relayed.payload) == data
    if probe is not None:
        again = make_probe(
            is_answer=probe.is_answer, tag=probe.tag, number=probe.number, secret=_PROBE_SECRET
        )
        assert probe.is_made_with(_PROBE_SECRET) is (again == data)


def paths(data: bytes) -> None:
    """The choice among the ways to a peer: two bytes are an event, and the time that passed before."""
    ways = PeerPaths(tag=bytes(TAG_BYTES), secret=_PROBE_SECRET, first_number=0)
    ways.accept_secret(_PROBE_SECRET)
    now, sent = 0.0, list[Sending]()
    for i in range(0, len(data) - 1, 2):
        event, number = divmod(data[i], 8)
        now += data[i + 1] / 50
        kind = list(PathKind)[number % 4]
        if event == 0:
            ways.add(number, kind)
        elif event == 1:
            ways.remove(number)
        elif event == 2:
            ways.begin_round([number, number + 1], now=now)
            ways.open_to([number + 2], now=now)
        elif event == 3:
            ways.doubt(now=now)
        elif event == 4:
            assert len(ways.routes()) <= MAX_ROUTES
        elif event == 5 and sent:
            probe = parse_probe(sent.pop(number % len(sent)).data)
            assert probe is not None
            mirrored = make_probe(
                is_answer=not probe.is_answer, tag=probe.tag, number=probe.number, secret=_PROBE_SECRET
            )
            answer = parse_probe(mirrored)
            assert answer is not None
            sent += ways.receive(answer, number, kind, now=now)
        elif event > 5:
            sent += ways.handle_timer(now=now)
        del sent[:-64]
        due = ways.next_deadline()
        assert due is None or due == due
        assert len(ways.paths()) <= MAX_ROUTES
        assert ways.active is None or ways.active in ways.paths()


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        *(frames, stream, messages, announcements, relay_messages, packets, paths),
        *(invitations, grants, passes),
    )
}
