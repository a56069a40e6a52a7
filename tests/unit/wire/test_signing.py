from dataclasses import replace

import msgpack
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gridnode.core.addresses import Address
from gridnode.core.announcements import Announcement, PeerState, Serving
from gridnode.core.ids import ModelId, PeerId
from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.errors import ProtocolError, Unauthentic
from gridnode.wire.messages import SignedAnnouncement
from gridnode.wire.signing import _DOMAIN, sign_announcement, verify_announcement

KEY = Ed25519PrivateKey.generate()
ME = PeerId(KEY.public_key().public_bytes_raw())
ANNOUNCEMENT = Announcement(
    peer_id=ME,
    sequence=7,
    ttl_s=90.0,
    state=PeerState.ONLINE,
    swarm="home",
    addresses=(Address("192.0.2.7", 7338), Address("2001:db8::7", 7338)),
    public_name="Ada",
    version="0.1.0",
    serving=Serving(
        model=ModelId("tiny", "a" * 64),
        num_blocks=6,
        span=Span(0, 3),
        has_embeddings=True,
        has_head=False,
        quantization=QuantFormat.INT4,
        max_session_tokens=100,
        free_cache_tokens=100,
        decode_block_s=0.001,
    ),
    rtts=((ME, 0.02),),
)


def forged(record: object) -> SignedAnnouncement:
    payload = msgpack.packb(record)
    return SignedAnnouncement(payload=payload, peer_id=ME, signature=KEY.sign(_DOMAIN + payload))


def test_what_was_signed_is_what_is_read() -> None:
    assert verify_announcement(sign_announcement(ANNOUNCEMENT, KEY.sign)) == ANNOUNCEMENT


def test_a_changed_byte_is_noticed() -> None:
    signed = sign_announcement(ANNOUNCEMENT, KEY.sign)
    for index in range(0, len(signed.payload), 7):
        payload = bytearray(signed.payload)
        payload[index] ^= 1
        with pytest.raises(Unauthentic):
            verify_announcement(replace(signed, payload=bytes(payload)))


def test_nobody_signs_for_somebody_else() -> None:
    other = Ed25519PrivateKey.generate()
    stolen = sign_announcement(ANNOUNCEMENT, other.sign)
    with pytest.raises(Unauthentic):
        verify_announcement(stolen)
    with pytest.raises(Unauthentic, match="signed an announcement of"):
        verify_announcement(replace(stolen, peer_id=PeerId(other.public_key().public_bytes_raw())))


def test_a_signature_for_another_purpose_is_not_accepted() -> None:
    signed = sign_announcement(ANNOUNCEMENT, KEY.sign)
    with pytest.raises(Unauthentic):
        verify_announcement(replace(signed, signature=KEY.sign(signed.payload)))


@pytest.mark.parametrize("record", [None, [], {}, {"peer_id": 1}, {"peer_id": ME, "sequence": "x"}])
def test_a_signed_record_that_is_no_announcement_is_a_protocol_error(record: object) -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        verify_announcement(forged(record))


def test_fields_of_later_versions_are_ignored() -> None:
    signed = sign_announcement(ANNOUNCEMENT, KEY.sign)
    record = {**msgpack.unpackb(signed.payload), "colour": "green"}
    assert verify_announcement(forged(record)) == ANNOUNCEMENT
