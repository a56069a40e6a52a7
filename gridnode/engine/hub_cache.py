"""Models of the Hub on this disk: in the shared Hugging Face cache, and quantized in our own."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec
from huggingface_hub import CachedRepoInfo, CacheNotFound, constants, scan_cache_dir

from gridnode.engine.block_cache import blocks_dir
from gridnode.engine.hub_checkpoint import HubIndex, index_file
from gridnode.engine.manifest import manifest_hash
from gridnode.engine.model_use import removing
from gridnode.engine.safetensors_checkpoint import CONFIG_FILE, read_json, text_config
from gridnode.errors import BadCheckpoint, BadInput
from gridnode.paths import dir_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedModel:
    """One repository of the Hub, as far as it is on this disk."""

    name: str
    stored_bytes: int
    """Bytes in the Hugging Face cache, which other programs share."""

    quantized_bytes: int
    """Bytes of quantized blocks in our cache: they are made again when they are missed."""

    weight_files: int
    """Weight files that are here."""

    total_weight_files: int | None
    """Weight files of the model; None if gridnode never opened it."""

    last_used_s: float
    """Seconds since 1970."""

    @property
    def is_complete(self) -> bool:
        """Whether every weight file is known to be here."""
        return self.weight_files == self.total_weight_files


def cached_models() -> tuple[CachedModel, ...]:
    """Return the models of the Hub with weights on this disk, by name."""
    return tuple(
        sorted((model for repo in _repositories() if (model := _describe(repo))), key=lambda m: m.name)
    )


def remove_cached(repository: str) -> int:
    """Remove a model from this disk and return the freed bytes.

    Raises:
        BadInput: it is not here, or a running node uses it.
    """
    with removing(repository) as is_unused:
        if not is_unused:
            raise BadInput(
                f"a running node on this computer uses {repository}; stop it first, 'gridnode ps' shows it"
            )
        repo = next((repo for repo in _repositories() if repo.repo_id == repository), None)
        if repo is None:
            raise BadInput(f"no model {repository!r} is on this disk; 'gridnode list' shows those that are")
        freed_bytes = 0
        for directory in _own_directories(repo):
            freed_bytes += dir_bytes(directory)
            shutil.rmtree(directory, ignore_errors=True)
        for commit in _commits(repo):
            index_file(repository, commit=commit).unlink(missing_ok=True)
        # Of the whole folder: it holds broken-off fetches that the library does not count.
        freed_bytes += dir_bytes(repo.repo_path)
        hashes = sorted(revision.commit_hash for revision in repo.revisions)
        scan_cache_dir(constants.HF_HUB_CACHE).delete_revisions(*hashes).execute()
        shutil.rmtree(repo.repo_path, ignore_errors=True)
        return freed_bytes


def _repositories() -> list[CachedRepoInfo]:
    try:
        return [repo for repo in scan_cache_dir(constants.HF_HUB_CACHE).repos if repo.repo_type == "model"]
    except CacheNotFound:
        return []


def _describe(repo: CachedRepoInfo) -> CachedModel | None:
    names = {file.file_name for revision in repo.revisions for file in revision.files}
    weight_files = {name for name in names if name.endswith(".safetensors")}
    index = next((found for commit in _commits(repo) if (found := _index(repo.repo_id, commit))), None)
    if index is None and not weight_files:
        return None  # not a model that could be served
    return CachedModel(
        name=repo.repo_id,
        stored_bytes=dir_bytes(repo.repo_path),
        quantized_bytes=sum(map(dir_bytes, _own_directories(repo))),
        weight_files=len(weight_files),
        total_weight_files=len(index.file_hashes) if index else None,
        last_used_s=repo.last_accessed,
    )


def _commits(repo: CachedRepoInfo) -> list[str]:
    newest_first = sorted(repo.revisions, key=lambda revision: -revision.last_modified)
    return [revision.commit_hash for revision in newest_first]


def _index(repository: str, commit: str) -> HubIndex | None:
    path = index_file(repository, commit=commit)
    try:
        return msgspec.json.decode(path.read_bytes(), type=HubIndex)
    except (OSError, msgspec.DecodeError):
        return None


def _own_directories(repo: CachedRepoInfo) -> list[Path]:
    """Return what we made of the weights of `repo`, if it is there."""
    found = []
    for revision in repo.revisions:
        index = _index(repo.repo_id, revision.commit_hash)
        if index is None:
            continue
        try:
            config = text_config(read_json(revision.snapshot_path / CONFIG_FILE))
        except BadCheckpoint:
            continue
        directory = blocks_dir() / manifest_hash(config, index.file_hashes)
        found += [directory] if directory.is_dir() else []
    return found
