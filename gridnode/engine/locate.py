"""From what a user writes behind `--model` to a checkpoint."""

from __future__ import annotations

import re
from pathlib import Path

from gridnode.engine.checkpoint import Checkpoint
from gridnode.errors import BadCheckpoint


def complete_models() -> tuple[str, ...]:
    """Return the names of the models of the Hub that are whole on this disk."""
    from gridnode.engine.hub_cache import cached_models

    return tuple(model.name for model in cached_models() if model.is_complete)


def open_checkpoint(location: str) -> Checkpoint:
    """Return the checkpoint at `location`: a directory of safetensors, a GGUF file or a Hub id.

    A GGUF file may be alone in its directory, with or without the files of a tokenizer.
    Reads headers only, and hashes local weight files the first time.

    Raises:
        BadCheckpoint: nothing usable is there.
    """
    path = Path(location).expanduser()
    # Each format imports its own libraries; a node needs one of them.
    if path.is_dir() and len(files := list(path.glob("*.gguf"))) == 1 and not any(path.glob("*.safetensors")):
        [path] = files
    if path.is_dir():
        from gridnode.engine.safetensors_checkpoint import open_directory

        return open_directory(path)
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise BadCheckpoint(f"{path} is not a GGUF file; give its directory if it is a safetensors file")
        from gridnode.engine.gguf_checkpoint import GgufCheckpoint

        return GgufCheckpoint(path)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", location):
        from gridnode.engine.hub_checkpoint import open_hub

        return open_hub(location)
    raise BadCheckpoint(
        f"there is no model at {location!r}; give a directory of safetensors, a GGUF file or a Hub id "
        "like HuggingFaceTB/SmolLM2-135M-Instruct"
    )
