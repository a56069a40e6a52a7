"""Where gridnode keeps things: XDG directories, on macOS too (one layout to document)."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def _xdg(variable: str, fallback: str) -> Path:
    """Return `$variable/gridnode`, or `~/fallback/gridnode`."""
    given = os.environ.get(variable)
    return (Path(given) if given else Path.home() / fallback) / "gridnode"


def cache_dir() -> Path:
    """Return the directory of what can be made again: quantized blocks, tokenizers."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def config_dir() -> Path:
    """Return the directory of what a person decides: the configuration file."""
    return _xdg("XDG_CONFIG_HOME", ".config")


def state_dir() -> Path:
    """Return the directory of what must survive: the identity, history, the log."""
    return _xdg("XDG_STATE_HOME", ".local/state")


def dir_bytes(directory: Path) -> int:
    """Return the bytes of the files in `directory`; links, and files that vanish meanwhile, count nothing."""
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace `path` by `data` so that a crash leaves the old file or the new one, never a part."""
    with replacing(path, mode=mode) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of `path` when it is on the disk; never on an error.

    It has the owner of the file whose place it takes, or else of the directory: root may write into what is
    another user's, such as a service's, who must be able to read it then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: several threads and processes may write the same file at once.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)  # as long as it is ours
            _give_to_owner(file.fileno(), path)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _give_to_owner(descriptor: int, path: Path) -> None:
    """Give what root writes in place of `path` to whom that belongs."""
    if os.geteuid() != 0:
        return
    directory = path.parent.stat()
    if directory.st_mode & stat.S_ISVTX:
        return  # /tmp: anybody may have put a file there, to be given what takes its place
    owner = path.lstat() if os.path.lexists(path) else directory
    mine = os.fstat(descriptor)
    if (owner.st_uid, owner.st_gid) == (mine.st_uid, mine.st_gid):
        return
    # Some file systems, of other computers or without owners, let not even root give files away.
    with contextlib.suppress(OSError):
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
