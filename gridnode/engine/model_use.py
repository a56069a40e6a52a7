"""Which models of the shared cache are in use, so that nobody removes them under a running node."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gridnode.errors import BadInput
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


@contextmanager
def removing(repository: str) -> Iterator[None]:
    """Keep nodes away while a model is removed.

    Raises:
        BadInput: a running node uses it.
    """
    with _lock_file(repository).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise BadInput(
                f"a running node on this computer uses {repository}; stop it first, 'gridnode ps' shows it"
            ) from exc
        yield


def _lock_file(repository: str) -> Path:
    directory = cache_dir() / "in-use"
    directory.mkdir(parents=True, exist_ok=True)
    return directory / f"{repository.replace('/', '--')}.lock"
