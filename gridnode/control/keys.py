"""Keys of the door: who may use a node from another computer, for what, and how much."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from enum import StrEnum

from gridnode.errors import BadInput

PREFIX = "gn-"
"""Every key begins with this, so that people and scanners of leaked secrets recognize it."""

KEY_BYTES = 32
MAX_NAME_CHARACTERS = 64
# A page of the monitor asks for some tens of files when it opens; a program that polls, once a second.
DEFAULT_REQUESTS_PER_MINUTE = 600
# Every answer leases KV cache on every hop; one key should not take all of it.
DEFAULT_MAX_ANSWERS = 8


class Scope(StrEnum):
    """What a key is good for."""

    CHAT = "chat"
    """Asking models, and listing them."""

    MONITOR = "monitor"
    """Looking at the swarm: status, pages, metrics."""

    ADMIN = "admin"
    """Everything, changes to the node too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What a node keeps of a key: everything but the key itself."""

    id: str
    """Names the key in lists and logs: the first 8 characters of `sha256`."""

    name: str
    """Whom or what it is for."""

    scopes: tuple[Scope, ...]
    requests_per_minute: int
    max_answers: int
    """Answers that may be written for this key at the same time."""

    created_at: str
    """UTC, like `2026-11-21T08:30:00Z`."""

    sha256: str
    """SHA-256 of the key, in hexadecimal digits."""

    def allows(self, scope: Scope) -> bool:
        """Return whether the key is good for `scope`."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


def new_secret() -> str:
    """Return a new key: the prefix, and 256 random bits as letters and digits, which a click selects."""
    return PREFIX + base64.b32encode(secrets.token_bytes(KEY_BYTES)).decode().rstrip("=").lower()


def digest(secret: str) -> str:
    """Return what is kept of a key.

    One round of SHA-256 without salt is enough here: slow hashes and salts protect secrets that people
    choose, because those can be guessed. Nobody guesses 256 random bits, and every request pays for this.
    """
    return hashlib.sha256(secret.encode()).hexdigest()


def make_key(
    secret: str,
    *,
    name: str,
    scopes: tuple[Scope, ...],
    requests_per_minute: int,
    max_answers: int,
    created_at: str,
) -> ApiKey:
    """Return the record of the key `secret`.

    Raises:
        BadInput: a name that cannot be shown, no scope, or a limit below 1.
    """
    if not name or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise BadInput(f"the name of a key has 1 to {MAX_NAME_CHARACTERS} printable characters, not {name!r}")
    if not scopes:
        raise BadInput(f"a key needs a scope: {', '.join(Scope)}")
    if requests_per_minute < 1 or max_answers < 1:
        raise BadInput(
            f"limits of a key must be at least 1, got {requests_per_minute} requests per minute "
            f"and {max_answers} answers at once"
        )
    sha256 = digest(secret)
    return ApiKey(
        id=sha256[:8],
        name=name,
        scopes=tuple(scope for scope in Scope if scope in scopes),
        requests_per_minute=requests_per_minute,
        max_answers=max_answers,
        created_at=created_at,
        sha256=sha256,
    )
