"""Readers of what strangers send, as functions of bytes, for the fuzzer and the tests.

A target returns if the bytes are fine or are refused with the error that its contract names. Any other
exception is a finding, and so is a broken promise: more memory than the limit, or another meaning
after writing what was read.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gridnode.core.ids import PeerId
from gridnode.errors import ProtocolError, Unauthentic
from gridnode.net.identity import Identity
from gridnode.wire import signing
from gridnode.wire.codec import encode_message
from gridnode.wire.credit import CREDIT_BYTES, MAX_CREDIT_BYTES
from gridnode.wire.frames import MAX_FRAME_BYTES, FrameDecoder, encode_frame
from gridnode.wire.messages import MAX_ANNOUNCEMENT_BYTES, SignedAnnouncement, decode_message
from gridnode.wire.stream import StreamProtocol

# Always the same one: what it says of itself is in the corpus.
_IDENTITY = Identity.from_key(Ed25519PrivateKey.from_private_bytes(bytes(32)))
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


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (frames, stream, messages, announcements)
}
