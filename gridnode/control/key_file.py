"""The file that keeps a node's keys, shared by the running node and `gridnode keys`."""

from __future__ import annotations

import fcntl
import hmac
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from gridnode.control.keys import (
    DEFAULT_MAX_ANSWERS,
    DEFAULT_REQUESTS_PER_MINUTE,
    ApiKey,
    Scope,
    digest,
    make_key,
    new_secret,
)
from gridnode.errors import BadInput
from gridnode.paths import write_atomically

logger = logging.getLogger("gridnode.control.keys")

KEY_FILE = "keys.json"
# Every request with a key is compared with all of them; these take 0.1 ms.
MAX_KEYS = 256


@dataclass(frozen=True, slots=True)
class _Content:
    """What the file holds."""

    keys: tuple[ApiKey, ...] = ()
    version: int = 1


class KeyFile:
    """The keys in the state directory of a node.

    Every process may read and change it at any time: a change replaces the file as a whole, and the
    next `find` sees it.
    """

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / KEY_FILE
        self._seen: tuple[int, int, int] | None = None
        """Inode, time of change and size of the file behind `_keys`."""
        self._keys: tuple[ApiKey, ...] = ()

    def find(self, secret: str) -> ApiKey | None:
        """Return the key that `secret` is, or None. A file that cannot be read has no keys."""
        wanted = digest(secret)
        found = None
        for key in self._fresh():
            # All of them, each in constant time: how long it takes tells nothing about any key.
            if hmac.compare_digest(key.sha256, wanted):
                found = key
        return found

    def keys(self) -> tuple[ApiKey, ...]:
        """Return the keys, oldest first.

        Raises:
            BadInput: the file cannot be read.
        """
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=_Content).keys
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.DecodeError) as exc:
            raise BadInput(
                f"the keys in {self.path} cannot be read: {exc}; repair the file, or delete it and make "
                "new keys with 'gridnode keys create NAME'"
            ) from exc

    def create(
        self,
        name: str,
        *,
        scopes: tuple[Scope, ...],
        requests_per_minute: int = DEFAULT_REQUESTS_PER_MINUTE,
        max_answers: int = DEFAULT_MAX_ANSWERS,
    ) -> tuple[ApiKey, str]:
        """Make a key and keep it; return its record, and the key itself, which is kept nowhere.

        Raises:
            BadInput: the key cannot be made as wished, or there are too many, or the file is unusable.
        """
        secret = new_secret()
        key = make_key(
            secret,
            name=name,
            scopes=scopes,
            requests_per_minute=requests_per_minute,
            max_answers=max_answers,
            created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        with self._changing():
            keys = self.keys()
            if any(other.name == name for other in keys):
                raise BadInput(f"there is a key named {name!r} already; choose another name, or revoke it")
            if len(keys) >= MAX_KEYS:
                raise BadInput(
                    f"there are {MAX_KEYS} keys already; revoke one with 'gridnode keys revoke ID'"
                )
            self._write((*keys, key))
        return key, secret

    def revoke(self, key_id: str) -> ApiKey:
        """Forget the key whose id or name is `key_id`; return what it was.

        Raises:
            BadInput: there is none, or the file is unusable.
        """
        with self._changing():
            keys = self.keys()
            found = [key for key in keys if key_id in (key.id, key.name)]
            if not found:
                known = ", ".join(f"{key.id} ({key.name})" for key in keys) or "none"
                raise BadInput(f"no key has the id or name {key_id!r}; there are: {known}")
            self._write(tuple(key for key in keys if key != found[0]))
        return found[0]

    def _fresh(self) -> tuple[ApiKey, ...]:
        """Return the keys, read again only if the file was replaced."""
        try:
            status = self.path.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        except OSError:
            seen = None
        if seen != self._seen:
            self._seen, self._keys = seen, ()
            try:
                self._keys = self.keys()
            except BadInput as exc:
                logger.error("%s; until then every key is refused", exc)
        return self._keys

    def _write(self, keys: tuple[ApiKey, ...]) -> None:
        data = msgspec.json.format(msgspec.json.encode(_Content(keys)), indent=2)
        # Hashes are no secrets, but who has a key, and for what, is nobody else's business.
        write_atomically(self.path, data + b"\n", mode=0o600)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Keep other processes from changing the file meanwhile: two changes must not undo each other."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            raise BadInput(f"cannot use the state directory {self.path.parent}: {exc.strerror}") from exc
        try:
            # The directory is locked, not the file, because a change replaces the file.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
