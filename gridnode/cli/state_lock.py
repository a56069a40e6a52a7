"""One node per state directory: two with the same key would confuse every peer."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gridnode.errors import BadInput

LOCK_FILE = "lock"


class StateDirHeld(BadInput):
    """Raised when another node holds a state directory.

    Attributes:
        holder_pid: Its process, if it is known.
    """

    def __init__(self, directory: Path, holder: str) -> None:
        super().__init__(
            f"a node with the identity in {directory} runs already (process {holder or 'unknown'}); stop it, "
            "or start a second one with '--state-dir DIR --listen 127.0.0.1:0 --api 127.0.0.1:0'"
        )
        self.holder_pid = int(holder) if holder.isdigit() else None


@contextmanager
def state_lock(directory: Path) -> Iterator[None]:
    """Hold `directory` for this process; the system lets go of it however the process ends.

    Raises:
        StateDirHeld: another node holds it.
        BadInput: it cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise BadInput(
            f"cannot write to the state directory {directory}: {exc.strerror}; choose one with --state-dir"
        ) from exc
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise StateDirHeld(directory, file.read(20).strip()) from exc
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
