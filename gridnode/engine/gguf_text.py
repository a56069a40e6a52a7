"""The tokenizer inside a GGUF file, written out once in the form of `transformers`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from gridnode.engine.gguf_checkpoint import GgufCheckpoint
from gridnode.errors import BadCheckpoint
from gridnode.paths import cache_dir, write_atomically


def export_text(checkpoint: GgufCheckpoint) -> Path:
    """Return the directory with the tokenizer's files of `checkpoint`; write them if they are not there.

    Raises:
        BadCheckpoint: transformers does not know the tokenizer in the file.
    """
    directory = cache_dir() / "text" / checkpoint.model_id.manifest
    if (directory / "config.json").exists():  # written last
        return directory
    from transformers import AutoTokenizer

    path = checkpoint.path
    try:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except (ValueError, KeyError, OSError) as exc:
        raise BadCheckpoint(f"cannot read the tokenizer in {path}: {exc}") from exc
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer.save_pretrained(scratch)
        for file in sorted(Path(scratch).iterdir()):
            write_atomically(directory / file.name, file.read_bytes())
    write_atomically(directory / "config.json", json.dumps(checkpoint.config).encode())
    return directory
