"""Which weights a checkpoint holds, in one hash.

The manifest hash is the SHA-256 over the configuration and the sorted list of (weight file, SHA-256 of
its bytes). Files rather than tensors, because the Hub publishes the SHA-256 of every weight file: a node
that downloaded a third of a model can still name the whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gridnode.errors import BadCheckpoint
from gridnode.paths import cache_dir, write_atomically

# What transformers writes into a configuration without changing the model.
_IGNORED_CONFIG_KEYS = frozenset({"_name_or_path", "transformers_version", "torch_dtype", "dtype"})


def manifest_hash(config: Mapping[str, Any], file_hashes: Mapping[str, str]) -> str:
    """Return the manifest hash: 64 hexadecimal characters.

    Args:
        file_hashes: SHA-256 of each weight file, by its name inside the checkpoint.
    """
    meaning = {key: value for key, value in config.items() if key not in _IGNORED_CONFIG_KEYS}
    record = json.dumps([meaning, sorted(file_hashes.items())], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(record.encode()).hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, computed once for as long as it is not changed.

    Raises:
        BadCheckpoint: the file cannot be read.
    """
    try:
        status = path.stat()
        # Size, times and inode change with every way in which a file can be replaced.
        key = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}"
        remembered = cache_dir() / "hashes" / hashlib.sha256(key.encode()).hexdigest()
        if remembered.exists():
            return remembered.read_text(encoding="ascii")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        write_atomically(remembered, found.encode("ascii"))
    except OSError as exc:
        raise BadCheckpoint(f"cannot read {path}: {exc.strerror or exc}") from exc
    return found
