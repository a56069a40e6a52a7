"""What of the caches is in use, so that nobody removes it under a running node."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from gridnode.paths import cache_dir


def is_hub_id(location: str) -> bool:
    """Return whether `location` has the form of a Hub id and is not a path here."""
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", location)) and not Path(location).expanduser().exists()


@contextmanager
def using(location: str) -> Iterator[None]:
    """Keep `remove` away from a model of the Hub, however this process ends; waits for one that runs."""
    if not is_hub_id(location):
        yield
        return
    with _lock_file(location).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


@cache
def use_for_good(name: str) -> int:
    """Keep others from removing what `name` stands for until this process ends."""
    descriptor = os.open(_lock_file(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


@contextmanager
def removing(name: str) -> Iterator[bool]:
    """Keep users away while something is removed; gives False, at once, if it is in use."""
    with _lock_file(name).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def _lock_file(name: str) -> Path:
    # Never removed: who waits for the lock of a removed file would get one that means nothing.
    directory = cache_dir() / "in-use"
    directory.mkdir(parents=True, exist_ok=True)
    return directory / f"{name.replace('/', '--')}.lock"
