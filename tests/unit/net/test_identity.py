"""The identity of a node: kept with care, proven by a certificate."""

from __future__ import annotations

import concurrent.futures
import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from gridnode.core.ids import show_peer
from gridnode.errors import BadInput, Unauthentic
from gridnode.net.certificate import make_certificate, peer_id_of
from gridnode.net.identity import (
    IDENTITY_FILE,
    MAX_IDENTITY_BYTES,
    Identity,
    load_or_create_identity,
    verify_signature,
)

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])


def certificate(
    public_key: object,
    signer: object,
    *,
    algorithm: hashes.HashAlgorithm | None = None,
    not_after: datetime.datetime = datetime.datetime(2040, 1, 1),
) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(public_key)  # type: ignore[arg-type]  # any kind of key
        .serial_number(1)
        .not_valid_before(datetime.datetime(2020, 1, 1))
        .not_valid_after(not_after)
        .sign(signer, algorithm)  # type: ignore[arg-type]
    )


def test_identity_survives_a_restart(tmp_path: Path) -> None:
    first = load_or_create_identity(tmp_path / "state")
    second = load_or_create_identity(tmp_path / "state")
    assert first.peer_id == second.peer_id
    assert first.certificate == second.certificate


def test_identity_file_is_private_and_alone(tmp_path: Path) -> None:
    load_or_create_identity(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [IDENTITY_FILE]
    assert (tmp_path / IDENTITY_FILE).stat().st_mode & 0o777 == 0o600


def test_starting_twice_at_once_gives_one_identity(tmp_path: Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        identities = list(pool.map(load_or_create_identity, [tmp_path] * 8))
    assert len({identity.peer_id for identity in identities}) == 1


def test_identity_readable_by_others_is_refused_with_advice(tmp_path: Path) -> None:
    load_or_create_identity(tmp_path)
    (tmp_path / IDENTITY_FILE).chmod(0o644)
    with pytest.raises(BadInput, match=r"mode 0644.*chmod 600"):
        load_or_create_identity(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"\0" * (MAX_IDENTITY_BYTES + 1),
    ],
    ids=["empty", "truncated", "too long"],
)
def test_corrupt_identity_is_refused_with_its_path(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / IDENTITY_FILE
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(BadInput, match=IDENTITY_FILE):
        load_or_create_identity(tmp_path)
    assert path.read_bytes() == content


def test_identity_with_another_kind_of_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / IDENTITY_FILE
    path.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    path.chmod(0o600)
    with pytest.raises(BadInput, match="Ed25519"):
        load_or_create_identity(tmp_path)


def test_signature_is_verified_with_the_peer_id_alone() -> None:
    identity = Identity.generate()
    signature = identity.sign(b"message")
    assert verify_signature(identity.peer_id, signature, b"message")
    assert not verify_signature(identity.peer_id, signature, b"another")
    assert not verify_signature(Identity.generate().peer_id, signature, b"message")
    assert not verify_signature(identity.peer_id, b"short", b"message")


def test_representation_does_not_show_the_key() -> None:
    assert "private_key" not in repr(Identity.generate())


def test_certificate_proves_the_peer_id() -> None:
    identity = Identity.generate()
    assert peer_id_of([identity.certificate], expected=identity.peer_id) == identity.peer_id


def test_expired_certificate_is_accepted() -> None:
    key = Ed25519PrivateKey.generate()
    expired = certificate(key.public_key(), key, not_after=datetime.datetime(2021, 1, 1))
    assert peer_id_of([expired]) == key.public_key().public_bytes_raw()


def test_certificate_of_somebody_else_is_refused() -> None:
    wanted, other = Identity.generate(), Identity.generate()
    with pytest.raises(Unauthentic, match=show_peer(other.peer_id)):
        peer_id_of([other.certificate], expected=wanted.peer_id)


def test_missing_certificate_is_refused() -> None:
    with pytest.raises(Unauthentic, match="no certificate"):
        peer_id_of([])


def test_chain_of_certificates_is_refused() -> None:
    one, two = Identity.generate(), Identity.generate()
    with pytest.raises(Unauthentic, match="2 certificates"):
        peer_id_of([one.certificate, two.certificate])


def test_rsa_certificate_is_refused() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(Unauthentic, match="RSA"):
        peer_id_of([certificate(key.public_key(), key, algorithm=hashes.SHA256())])


def test_certificate_signed_by_another_key_is_refused() -> None:
    victim, attacker = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    with pytest.raises(Unauthentic, match="not signed by its own key"):
        peer_id_of([certificate(victim.public_key(), attacker)])


def test_certificate_is_always_the_same_for_one_key() -> None:
    key = Ed25519PrivateKey.generate()
    assert make_certificate(key) == make_certificate(key)
