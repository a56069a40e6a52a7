"""Quantized tensors on disk, so that a restart maps them into memory instead of quantizing again."""

from __future__ import annotations

import json
import logging
import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from gridnode.core.models import QuantFormat
from gridnode.engine.checkpoint import Checkpoint
from gridnode.engine.executor import Array
from gridnode.engine.model_use import removing, use_for_good
from gridnode.engine.quantization import DEFAULT_GROUP_SIZE, QuantizedTensor, quantize
from gridnode.paths import cache_dir, dir_bytes, write_atomically

logger = logging.getLogger("gridnode.engine.block_cache")

# Raised when what is written changes, so that older files are not read.
_LAYOUT = 1


@dataclass(frozen=True, slots=True)
class StoredArray:
    """One array inside a file of the cache."""

    path: Path
    offset: int
    length: int
    dtype: str
    """`uint8` or `float32`."""

    shape: tuple[int, ...]

    def mapped(self) -> Array:
        """Return the array as a memory map: its pages are the system's, shared by all who read them."""
        # Copy on write: torch wants arrays that could be written to; nobody does.
        return np.memmap(self.path, self.dtype, mode="c", offset=self.offset, shape=self.shape)


class BlockCache:
    """The quantized matrices of one checkpoint.

    Args:
        group_size: Values that share a scale.
    """

    def __init__(
        self, checkpoint: Checkpoint, quantization: QuantFormat, *, group_size: int = DEFAULT_GROUP_SIZE
    ) -> None:
        self._checkpoint = checkpoint
        self._quantization = quantization
        self._group_size = group_size
        self._directory = blocks_dir() / checkpoint.model_id.manifest
        use_for_good(checkpoint.model_id.manifest)

    def matrices(self, key: str, parts: dict[str, list[str]]) -> dict[str, dict[str, StoredArray]]:
        """Return quantized matrices as arrays on disk; quantize and write them if they are not there.

        Args:
            key: Name of the file: a block, or the head.
            parts: For each matrix the tensors that are joined to it, by their outputs.

        Returns:
            For each matrix its arrays `packed`, `scales` and `zero_points`, see `pack`.
        """
        name = f"{key}-{self._quantization}-g{self._group_size}-v{_LAYOUT}.safetensors"
        path = self._directory / name
        if not _is_whole(path):
            logger.debug("quantizing %s", key)
            arrays: dict[str, Array] = {}
            for matrix, names in parts.items():
                for part, array in pack(self._quantize(names)).items():
                    arrays[f"{matrix}.{part}"] = array
            write_atomically(path, save(arrays))
        os.utime(self._directory)  # what was used last is removed last
        stored = _stored_arrays(path)
        return {
            matrix: {part: stored[f"{matrix}.{part}"] for part in ("packed", "scales", "zero_points")}
            for matrix in parts
        }

    def _quantize(self, names: list[str]) -> list[QuantizedTensor]:
        return [
            quantize(self._checkpoint.read(name), self._quantization, group_size=self._group_size)
            for name in names
        ]


def mapped_tensor(stored: dict[str, StoredArray], shape: tuple[int, int]) -> QuantizedTensor:
    """Return a matrix of the cache, `[outputs, inputs]`, without reading it."""
    packed, scales, zero_points = (stored[part].mapped() for part in ("packed", "scales", "zero_points"))
    groups = scales.shape[1]
    bits = 8 if zero_points.shape == scales.shape else 4
    if bits == 4:
        halves = np.stack((zero_points & 0x0F, zero_points >> 4), axis=-1)
        zero_points = np.ascontiguousarray(halves.reshape(len(zero_points), -1)[:, :groups])
    return QuantizedTensor(bits, packed.shape[2] * 8 // bits, shape, packed, scales, zero_points)


def blocks_dir() -> Path:
    """Return the directory with one directory of quantized blocks per manifest."""
    return cache_dir() / "blocks"


def damaged_files(manifest: str) -> tuple[Path, ...]:
    """Return the files of a checkpoint's quantized blocks that are not as long as they say; they are made
    again when they are needed."""
    files = sorted((blocks_dir() / manifest).glob("*.safetensors"))
    return tuple(path for path in files if not _is_whole(path))


def shrink_block_cache(limit_bytes: int) -> None:
    """Remove models from the cache until it is no larger: least recently used first, never one in use."""
    sizes = {directory: dir_bytes(directory) for directory in blocks_dir().glob("*") if directory.is_dir()}
    total = sum(sizes.values())
    for directory in sorted(sizes, key=lambda directory: directory.stat().st_mtime):
        if total <= limit_bytes:
            return
        with removing(directory.name) as is_unused:
            if is_unused:
                logger.info("removing quantized blocks of %s to make room", directory.name[:12])
                shutil.rmtree(directory, ignore_errors=True)
                total -= sizes[directory]


def pack(tensors: list[QuantizedTensor]) -> dict[str, Array]:
    """Return the arrays of matrices joined by their outputs, as `MatMulNBits` of ONNX Runtime takes them."""
    zero_points = np.concatenate([tensor.zero_points for tensor in tensors])
    if tensors[0].bits == 4:  # two to a byte, each row padded to whole bytes
        padded = np.pad(zero_points, ((0, 0), (0, zero_points.shape[1] % 2)))
        zero_points = padded[:, 0::2] | (padded[:, 1::2] << 4)
    return {
        "packed": np.concatenate([tensor.packed for tensor in tensors]),
        "scales": np.concatenate([tensor.scales for tensor in tensors]).astype(np.float32),
        "zero_points": np.ascontiguousarray(zero_points),
    }


def _is_whole(path: Path) -> bool:
    """Return whether a file is there, can be read, and ends where its header says.

    A crash of the computer, or a disk that was full, leaves other files. Every byte of them would take
    seconds to check at every start.
    """
    try:
        stored = _stored_arrays(path)
        end = max((array.offset + array.length for array in stored.values()), default=0)
        return path.stat().st_size == end
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return False


def _stored_arrays(path: Path) -> dict[str, StoredArray]:
    """Return where the arrays of a safetensors file lie."""
    with path.open("rb") as file:
        (header_bytes,) = struct.unpack("<Q", file.read(8))
        if header_bytes > path.stat().st_size:
            raise ValueError(f"{path} has no header of {header_bytes} bytes")
        header = json.loads(file.read(header_bytes))
    dtypes = {"U8": "uint8", "F32": "float32"}
    return {
        name: StoredArray(
            path,
            8 + header_bytes + record["data_offsets"][0],
            record["data_offsets"][1] - record["data_offsets"][0],
            dtypes[record["dtype"]],
            tuple(record["shape"]),
        )
        for name, record in header.items()
        if name != "__metadata__"
    }
