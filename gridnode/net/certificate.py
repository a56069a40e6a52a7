"""Certificates of peers: self-signed, Ed25519, nothing in them counts but the key.

TLS 1.3 (RFC 8446, 4.4.3) makes the other side prove that it holds the key of its certificate.
What is left for us is to read the peer id out of it.
"""

from __future__ import annotations

import datetime
import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID

from gridnode.core.ids import PeerId, show_peer
from gridnode.errors import Unauthentic

# Dates prove nothing about a key that names itself, so nobody checks them. RFC 5280, 4.1.2.5:
# 99991231235959Z says that there is no meaningful end.
_NOT_BEFORE = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
_SERIAL_BYTES = 16


def make_certificate(private_key: Ed25519PrivateKey) -> x509.Certificate:
    """Return the self-signed certificate of `private_key`: always the same bytes for one key."""
    public = private_key.public_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, show_peer(PeerId(public.public_bytes_raw())))])
    serial = hashlib.sha256(public.public_bytes_raw()).digest()[:_SERIAL_BYTES]
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(int.from_bytes(serial, "big") or 1)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .sign(private_key, algorithm=None)
    )


def peer_id_of(certificates: list[x509.Certificate], *, expected: PeerId | None = None) -> PeerId:
    """Return the peer id that the certificates of a finished handshake prove.

    Args:
        certificates: What the peer presented, its own first.
        expected: Who it should be, or None if anybody may.

    Raises:
        Unauthentic: not exactly one certificate, not Ed25519, not signed by itself, or not `expected`.
    """
    if not certificates:
        raise Unauthentic("the peer presented no certificate")
    if len(certificates) > 1:
        raise Unauthentic(f"the peer presented {len(certificates)} certificates instead of one")
    [certificate] = certificates
    try:
        key = certificate.public_key()
        if not isinstance(key, Ed25519PublicKey):
            raise Unauthentic(f"the peer's certificate holds {type(key).__name__} instead of Ed25519")
        key.verify(certificate.signature, certificate.tbs_certificate_bytes)
    except InvalidSignature:
        raise Unauthentic("the peer's certificate is not signed by its own key") from None
    except ValueError as exc:  # cryptography: a key or algorithm that it cannot read
        raise Unauthentic(f"the peer's certificate cannot be read: {exc}") from exc
    peer_id = PeerId(key.public_bytes_raw())
    if expected is not None and peer_id != expected:
        raise Unauthentic(f"node {show_peer(peer_id)} answered instead of {show_peer(expected)}")
    return peer_id
