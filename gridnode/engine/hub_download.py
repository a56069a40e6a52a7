"""Fetching weight files from the Hugging Face Hub into its shared cache, so that a broken fetch is resumed.

`huggingface_hub` begins a file again when its process was stopped; some files have five gigabytes. So we
write the file ourselves, beside the place where the library keeps it, check its hash, and let the library
link it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path

import httpx
from huggingface_hub import constants, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils._headers import build_hf_headers

from gridnode.errors import BadCheckpoint, NoCapacity
from gridnode.units import GIB, format_bytes

# Drops of a connection in one file; each try goes on where the last one ended.
MAX_TRIES = 5
SILENCE_S = 30.0
# A disk without any room stops more than this program.
FREE_DISK_RESERVE_BYTES = 1 * GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """One weight file of one commit of a repository."""

    repository: str
    commit: str
    name: str
    sha256: str
    size_bytes: int

    def cached(self) -> Path | None:
        """Return where it lies complete, or None."""
        found = try_to_load_from_cache(self.repository, self.name, revision=self.commit)
        return Path(found) if isinstance(found, str) else None

    @property
    def blob_path(self) -> Path:
        """Where the library keeps it, under its hash."""
        folder = repo_folder_name(repo_id=self.repository, repo_type="model")
        return Path(constants.HF_HUB_CACHE) / folder / "blobs" / self.sha256

    @property
    def part_path(self) -> Path:
        """Where it grows."""
        return self.blob_path.with_name(f"{self.sha256}.gridnode.incomplete")

    def fetched_bytes(self) -> int:
        """Return how much of it is on this disk already."""
        if self.cached():
            return self.size_bytes
        return self.part_path.stat().st_size if self.part_path.exists() else 0


def fetch(file: WeightFile, *, on_bytes: Callable[[int], None] = lambda count: None) -> Path:
    """Return the path of `file`, fetching what is not here yet.

    Args:
        on_bytes: Called with the number of bytes that were written; negative if they were of no use.

    Raises:
        BadCheckpoint: it cannot be fetched, or is not what the Hub promised.
        NoCapacity: the disk is full.
    """
    if found := file.cached():
        return found
    try:
        if not file.blob_path.exists():
            _fetch_blob(file, on_bytes)
        # The blob is there under its hash: the library only links it into the snapshot.
        return Path(hf_hub_download(file.repository, file.name, revision=file.commit))
    except (BadCheckpoint, NoCapacity):
        raise
    except Exception as exc:  # the library's HTTP client and ours are not always the same
        size = format_bytes(file.size_bytes)
        text = f"cannot fetch {file.name} of {file.repository} ({size}): {exc}; what came is kept, try again"
        kind = NoCapacity if isinstance(exc, OSError) and exc.errno == errno.ENOSPC else BadCheckpoint
        raise kind(text) from exc


def _fetch_blob(file: WeightFile, on_bytes: Callable[[int], None]) -> None:
    if constants.HF_HUB_OFFLINE:
        raise OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
    url = hf_hub_url(file.repository, file.name, revision=file.commit)
    with _locked(file.part_path) as part:
        if file.blob_path.exists():
            return  # another process was faster
        check_room(file.size_bytes - file.fetched_bytes(), directory=file.part_path.parent)
        for tries_left in reversed(range(MAX_TRIES)):
            try:
                _fetch_rest(url, part, file, on_bytes)
                break
            except httpx.TransportError:
                if not tries_left:
                    raise
        if _sha256(part) != file.sha256:
            on_bytes(-part.tell())
            file.part_path.unlink()
            raise BadCheckpoint(
                f"{file.name} of {file.repository} arrived damaged (its SHA-256 is not {file.sha256[:12]}…); "
                "it was thrown away: fetch it again"
            )
        part.flush()
        os.fsync(part.fileno())
        file.part_path.replace(file.blob_path)


def free_disk_bytes(directory: Path) -> int:
    """Return the free bytes of the disk that `directory` is on, or will be."""
    while not directory.exists():
        directory = directory.parent
    return shutil.disk_usage(directory).free


def check_room(missing_bytes: int, *, directory: Path) -> None:
    """Check that so much can be fetched into `directory`.

    Raises:
        NoCapacity: the disk would be full, or nearly.
    """
    free_bytes = free_disk_bytes(directory)
    lacking = missing_bytes + FREE_DISK_RESERVE_BYTES - free_bytes
    if missing_bytes and lacking > 0:
        raise NoCapacity(
            f"{format_bytes(missing_bytes)} to fetch, but {format_bytes(free_bytes)} free at {directory} "
            f"and {format_bytes(FREE_DISK_RESERVE_BYTES)} of it stay free; make {format_bytes(lacking)} of "
            "room ('gridnode list', 'gridnode rm'), name a larger disk with HF_HOME, or take fewer --blocks"
        )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[BufferedRandom]:
    """Open a part for this process alone; others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as part:
        fcntl.flock(part, fcntl.LOCK_EX)
        part.seek(0, os.SEEK_END)
        yield part


def _fetch_rest(url: str, part: BufferedRandom, file: WeightFile, on_bytes: Callable[[int], None]) -> None:
    """Append to `part` what it lacks."""
    start = part.seek(0, os.SEEK_END)
    if start > file.size_bytes:  # not ours, or of a broken disk
        on_bytes(file.size_bytes - start)
        start = part.truncate(0)
    if start == file.size_bytes:
        return
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with (
        # A redirect to another host, as large files have it, is followed without the token.
        httpx.Client(follow_redirects=True, timeout=SILENCE_S) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        response.raise_for_status()
        if response.status_code == 200 and start:  # the server does not resume
            on_bytes(-start)
            part.truncate(0)
        for chunk in response.iter_raw():
            part.write(chunk)
            on_bytes(len(chunk))


def _sha256(part: BufferedRandom) -> str:
    part.seek(0)
    return hashlib.file_digest(part, "sha256").hexdigest()
