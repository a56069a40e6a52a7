"""Checkpoints on the Hugging Face Hub: only the weight files that are read are downloaded."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from huggingface_hub import HfApi, constants, get_safetensors_metadata, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)

from gridnode.engine.checkpoint import TensorEntry
from gridnode.engine.safetensors_checkpoint import (
    CONFIG_FILE,
    SafetensorsCheckpoint,
    read_json,
    text_config,
)
from gridnode.errors import BadCheckpoint
from gridnode.paths import cache_dir, write_atomically
from gridnode.units import format_bytes

logger = logging.getLogger("gridnode.engine.hub")

# Everything beside the weights: kilobytes, and needed to tokenize.
_SMALL_FILES = ["*.json", "*.jinja", "*.model", "*.txt"]


class _HubIndex(msgspec.Struct, frozen=True):
    """What the Hub says about the weights of one commit; kept so that a node starts without network."""

    file_hashes: dict[str, str]
    file_bytes: dict[str, int]
    tensors: dict[str, TensorEntry]


def open_hub(repository: str) -> SafetensorsCheckpoint:
    """Return the checkpoint of a Hub repository. Offline mode (`HF_HUB_OFFLINE`) uses what is cached.

    Raises:
        BadCheckpoint: the repository does not exist, cannot be reached, or holds no safetensors.
    """
    try:
        directory = Path(snapshot_download(repository, allow_patterns=_SMALL_FILES))
        index = _index(repository, commit=directory.name)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as exc:
        reason = str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
        raise BadCheckpoint(
            f"{repository!r} is neither a local directory, nor a GGUF file, nor a Hub repository that can be "
            f"reached now: {reason}"
        ) from exc

    @cache
    def fetch(weight_file: str) -> Path:
        size = format_bytes(index.file_bytes.get(weight_file, 0))
        logger.info("fetching %s of %s (%s)", weight_file, repository, size)
        try:
            return Path(hf_hub_download(repository, weight_file, revision=directory.name))
        except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as exc:
            raise BadCheckpoint(f"cannot fetch {weight_file} of {repository} ({size}): {exc}") from exc

    return SafetensorsCheckpoint(
        name=repository,
        config=text_config(read_json(directory / CONFIG_FILE)),
        tensors=index.tensors,
        file_hashes=index.file_hashes,
        fetch=fetch,
        text_dir=directory,
    )


def _index(repository: str, *, commit: str) -> _HubIndex:
    """Return what the Hub says about the weights, from the cache if this commit was seen before."""
    remembered = cache_dir() / "hub" / f"{repository.replace('/', '--')}@{commit}.json"
    if remembered.exists():
        return msgspec.json.decode(remembered.read_bytes(), type=_HubIndex)
    if constants.HF_HUB_OFFLINE:
        raise OfflineModeIsEnabled(f"{repository} was never opened with a network, and HF_HUB_OFFLINE is set")
    info = HfApi().model_info(repository, revision=commit, files_metadata=True)
    hashes = {file.rfilename: file.lfs.sha256 for file in info.siblings or () if file.lfs is not None}
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    metadata: Any = get_safetensors_metadata(repository, revision=commit)
    tensors = {
        name: TensorEntry(weight_file, tuple(tensor.shape))
        for weight_file, file in metadata.files_metadata.items()
        for name, tensor in file.tensors.items()
    }
    weight_files = {entry.weight_file for entry in tensors.values()}
    index = _HubIndex(
        file_hashes={file: hashes[file] for file in weight_files},
        file_bytes={file: sizes.get(file, 0) for file in weight_files},
        tensors=tensors,
    )
    write_atomically(remembered, msgspec.json.encode(index))
    return index
