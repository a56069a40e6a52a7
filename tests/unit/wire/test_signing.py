from dataclasses import replace

import msgpack
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from wire_samples import ANNOUNCEMENT
from wire_samples import PEER as ME
from wire_samples import PEER_KEY as KEY

from gridnode.core.ids import PeerId
from gridnode.errors import ProtocolError, Unauthentic
from gridnode.wire.messages import SignedAnnouncement
from gridnode.wire.signing import _DOMAIN, sign_announcement, verify_announcement


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


@pytest.mark.parametrize(
    ("field", "value"),
    [("open_sessions", 2**63), ("decode_block_s", 1e-310), ("model", {"name": "x", "manifest": "../.."})],
)
def test_a_peer_cannot_sign_what_would_break_others(field: str, value: object) -> None:
    record = msgpack.unpackb(sign_announcement(ANNOUNCEMENT, KEY.sign).payload)
    record["serving"][field] = value
    with pytest.raises(ProtocolError, match="malformed"):
        verify_announcement(forged(record))


def test_a_model_with_a_name_that_steers_terminals_is_no_announcement() -> None:
    record = msgpack.unpackb(sign_announcement(ANNOUNCEMENT, KEY.sign).payload)
    record["serving"]["model"]["name"] = "tiny\x1b]0;evil\x07"
    with pytest.raises(
        ProtocolError, match=r"malformed: .*'tiny\\x1b\]0;evil\\x07' has characters that cannot be"
    ):
        verify_announcement(forged(record))
