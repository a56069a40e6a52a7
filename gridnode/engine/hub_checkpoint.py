"""Checkpoints on the Hugging Face Hub: only the weight files that are read are downloaded."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from huggingface_hub import HfApi, constants, get_safetensors_metadata, snapshot_download
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.utils.tqdm import disable_progress_bars

from gridnode.engine.checkpoint import TensorEntry
from gridnode.engine.hub_download import WeightFile, fetch, free_disk_bytes
from gridnode.engine.safetensors_checkpoint import (
    CONFIG_FILE,
    SafetensorsCheckpoint,
    read_json,
    text_config,
)
from gridnode.errors import BadCheckpoint
from gridnode.paths import cache_dir, write_atomically
from gridnode.units import GIB, format_bytes

logger = logging.getLogger("gridnode.engine.hub")

# Everything beside the weights: kilobytes, and needed to tokenize. The card names the licence.
_SMALL_FILES = ["*.json", "*.jinja", "*.model", "*.txt", "README.md"]


LARGE_FETCH_BYTES = 1 * GIB
"""Fetches of more than this are shown to people who did not ask for logs."""


class HubIndex(msgspec.Struct, frozen=True):
    """What the Hub says about the weights of one commit; kept so that a node starts without network."""

    file_hashes: dict[str, str]
    file_bytes: dict[str, int]
    tensors: dict[str, TensorEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubModel:
    """One commit of a repository: its small files are here, its weights are described."""

    checkpoint: SafetensorsCheckpoint
    directory: Path
    """Of the small files."""

    weight_files: Mapping[str, WeightFile]


def open_hub(repository: str) -> SafetensorsCheckpoint:
    """Return the checkpoint of a Hub repository. Offline mode (`HF_HUB_OFFLINE`) uses what is cached.

    Raises:
        BadCheckpoint: the repository does not exist, cannot be reached, or holds no safetensors.
    """
    return find_hub_model(repository).checkpoint


def find_hub_model(repository: str) -> HubModel:
    """Return what is known of a repository without its weights.

    Raises:
        BadCheckpoint: as `open_hub`.
    """
    disable_progress_bars()  # of the library: bars on a daemon's stderr are noise, `pull` has one of its own
    try:
        directory = Path(snapshot_download(repository, allow_patterns=_SMALL_FILES))
        index = _index(repository, commit=directory.name)
    except Exception as exc:  # its HTTP client's errors come through, and the client differs by version
        reason = str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
        raise BadCheckpoint(
            f"{repository!r} is neither a local directory, nor a GGUF file, nor a Hub repository that can be "
            f"reached now: {reason}"
        ) from exc
    weight_files = {
        name: WeightFile(
            repository=repository,
            commit=directory.name,
            name=name,
            sha256=sha256,
            size_bytes=index.file_bytes.get(name, 0),
        )
        for name, sha256 in index.file_hashes.items()
    }

    @cache
    def fetch_weights(name: str) -> Path:
        file = weight_files[name]
        missing_bytes = file.size_bytes - file.fetched_bytes()
        if missing_bytes:
            logger.log(
                # Terminals show warnings only: nobody's disk and line are taken without a word.
                logging.WARNING if missing_bytes >= LARGE_FETCH_BYTES else logging.INFO,
                "fetching %s of %s: %s from %s, %s free on the disk",
                *(name, repository, format_bytes(missing_bytes), constants.ENDPOINT),
                format_bytes(free_disk_bytes(file.part_path.parent)),
            )
        return fetch(file)

    checkpoint = SafetensorsCheckpoint(
        name=repository,
        config=text_config(read_json(directory / CONFIG_FILE)),
        tensors=index.tensors,
        file_hashes=index.file_hashes,
        fetch=fetch_weights,
        text_dir=directory,
    )
    return HubModel(checkpoint=checkpoint, directory=directory, weight_files=weight_files)


def index_file(repository: str, *, commit: str) -> Path:
    """Return where the `HubIndex` of a commit is kept."""
    return cache_dir() / "hub" / f"{repository.replace('/', '--')}@{commit}.json"


def _index(repository: str, *, commit: str) -> HubIndex:
    """Return what the Hub says about the weights, from the cache if this commit was seen before."""
    remembered = index_file(repository, commit=commit)
    if remembered.exists():
        return msgspec.json.decode(remembered.read_bytes(), type=HubIndex)
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
    index = HubIndex(
        file_hashes={file: hashes[file] for file in weight_files},
        file_bytes={file: sizes.get(file, 0) for file in weight_files},
        tensors=tensors,
    )
    write_atomically(remembered, msgspec.json.encode(index))
    return index
