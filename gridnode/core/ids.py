"""Identifiers that must not be mixed up."""

from __future__ import annotations

import base64
import binascii
import functools
import re
from dataclasses import dataclass
from typing import NewType

PEER_ID_BYTES = 32
SESSION_ID_BYTES = 16
MAX_SWARM_NAME_CHARACTERS = 64
# The longest name that file systems give to a file; those of the Hub are shorter.
MAX_MODEL_NAME_CHARACTERS = 255

PeerId = NewType("PeerId", bytes)
"""A node's Ed25519 public key: 32 bytes (RFC 8032)."""

SessionId = NewType("SessionId", bytes)
"""16 random bytes that the client of a session chose."""

_MANIFEST = re.compile(r"[0-9a-f]{64}")


@functools.lru_cache(maxsize=8192)
def show_peer(peer_id: PeerId) -> str:
    """Return the full base32 form of `peer_id`: 52 lower-case characters (RFC 4648, unpadded)."""
    return base64.b32encode(peer_id).decode().rstrip("=").lower()


def short(peer_id: PeerId) -> str:
    """Return the first 8 characters of the base32 form, for logs and tables."""
    return show_peer(peer_id)[:8]


def parse_peer_id(text: str) -> PeerId:
    """Return the peer id that `show_peer` printed.

    Raises:
        ValueError: `text` is not the base32 form of 32 bytes.
    """
    try:
        raw = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except binascii.Error as exc:
        raise ValueError(f"{text!r} is not a peer id: {exc}") from exc
    if len(raw) != PEER_ID_BYTES:
        raise ValueError(f"{text!r} is not a peer id: {len(raw)} bytes instead of {PEER_ID_BYTES}")
    return PeerId(raw)


@dataclass(frozen=True, slots=True, order=True)
class ModelId:
    """One set of weights. Two checkpoints of the same name never mix."""

    name: str
    """What people call it, printable: a Hub id, or the name of the file or directory."""

    manifest: str
    """Manifest hash: 64 hexadecimal characters, see `gridnode.engine.manifest`."""

    def __post_init__(self) -> None:
        # Peers say it, and directories are named after it.
        if not _MANIFEST.fullmatch(self.manifest):
            raise ValueError(f"not a manifest hash of 64 hexadecimal characters: {self.manifest[:80]!r}")
        # Strangers choose names, and terminals show them.
        if not self.name.isprintable():
            raise ValueError(f"the name of the model {self.name[:80]!r} has characters that cannot be shown")
        if not 0 < len(self.name) <= MAX_MODEL_NAME_CHARACTERS:
            raise ValueError(
                f"the name of the model has {len(self.name)} characters, 1 to {MAX_MODEL_NAME_CHARACTERS} "
                "are allowed"
            )

    def __str__(self) -> str:
        return f"{self.name}@{self.manifest[:12]}"
