"""The node's key pair: who it is, on every network, until the file is deleted."""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gridnode.core.ids import PeerId
from gridnode.errors import BadInput
from gridnode.net.certificate import make_certificate

IDENTITY_FILE = "identity.pem"
# A PKCS#8 Ed25519 key in PEM has 119 bytes; whatever is much longer is another file.
MAX_IDENTITY_BYTES = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """A node's key pair, with the certificate that carries it in TLS."""

    private_key: Ed25519PrivateKey = field(repr=False)
    peer_id: PeerId
    certificate: x509.Certificate = field(repr=False)

    @classmethod
    def from_key(cls, private_key: Ed25519PrivateKey) -> Identity:
        """Return the identity that `private_key` stands for."""
        peer_id = PeerId(private_key.public_key().public_bytes_raw())
        return cls(private_key, peer_id, make_certificate(private_key))

    @classmethod
    def generate(cls) -> Identity:
        """Return a new identity, kept nowhere."""
        return cls.from_key(Ed25519PrivateKey.generate())

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature of `message` (RFC 8032)."""
        return self.private_key.sign(message)


def verify_signature(peer_id: PeerId, signature: bytes, message: bytes) -> bool:
    """Return whether the node `peer_id` signed `message`."""
    try:
        Ed25519PublicKey.from_public_bytes(peer_id).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def load_or_create_identity(directory: Path) -> Identity:
    """Return the identity kept in `directory`; make one there at the first start.

    The file can be read and written by its owner only. Several processes may call this at
    once: all of them get the same identity.

    Raises:
        BadInput: the file is corrupt, or others than its owner may read it.
    """
    path = directory / IDENTITY_FILE
    if not path.exists():
        _create(path)
    return _load(path)


def _create(path: Path) -> None:
    """Write a new key to `path`, complete or not at all, unless somebody else was faster."""
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # mkstemp gives a name of its own to each starter, and mode 0600.
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        # link(2) refuses to replace a file, rename(2) would: the first of two starters wins.
        path.hardlink_to(temporary)
    except FileExistsError:
        pass
    finally:
        Path(temporary).unlink()


def _load(path: Path) -> Identity:
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        pem = file.read(MAX_IDENTITY_BYTES + 1)
    if mode & 0o077:
        raise BadInput(
            f"the identity {path} has mode {mode:04o}, so other users of this machine may have copied it; "
            f"if you are sure that nobody did, run 'chmod 600 {path}', else delete it and get a new one"
        )
    advice = "restore it from a backup, or delete it and this node gets a new identity"
    if len(pem) > MAX_IDENTITY_BYTES:
        raise BadInput(f"the identity {path} is longer than {MAX_IDENTITY_BYTES} bytes; {advice}")
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise BadInput(
            f"the identity {path} ({len(pem)} bytes) is not a private key in PEM; {advice}"
        ) from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput(f"the identity {path} holds another kind of key than Ed25519; {advice}")
    return Identity.from_key(key)
