"""Quantized tensors on disk, so that a restart maps them into memory instead of quantizing again."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import numpy as np

from gridnode.core.models import QuantFormat
from gridnode.engine.block_file import StoredArray, is_whole, stored_arrays, write_arrays
from gridnode.engine.checkpoint import Checkpoint
from gridnode.engine.executor import Array
from gridnode.engine.model_use import removing, use_for_good
from gridnode.engine.quantization import QuantizedTensor, carry, group_size_of, quantize
from gridnode.paths import cache_dir, dir_bytes

logger = logging.getLogger("gridnode.engine.block_cache")

# Raised when what is written changes, so that older files are not read.
_LAYOUT = 3
# Of int4, these keep 8 bits, with whatever is joined to them: they are the smallest matrices of a block, and
# what rounding them to 4 costs is half of what all of them cost.
_QUERIES_KEYS_VALUES = (".q_proj.", ".k_proj.", ".v_proj.", ".qkv_proj.", ".query_key_value.")


class BlockCache:
    """The quantized matrices of one checkpoint."""

    def __init__(self, checkpoint: Checkpoint, quantization: QuantFormat) -> None:
        self._checkpoint = checkpoint
        self._quantization = quantization
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
        name = f"{key}-{self._quantization}-v{_LAYOUT}.safetensors"
        path = self._directory / name
        if not is_whole(path):
            logger.debug("quantizing %s", key)
            arrays: dict[str, Array] = {}
            for matrix, names in parts.items():
                for part, array in pack(self._quantize(names)).items():
                    arrays[f"{matrix}.{part}"] = array
            write_arrays(path, arrays)
            for layout in range(1, _LAYOUT):
                for older in self._directory.glob(f"*-v{layout}.safetensors"):
                    older.unlink(missing_ok=True)  # nobody reads it any more
        os.utime(self._directory)  # what was used last is removed last
        stored = stored_arrays(path)
        return {
            matrix: {part: stored[f"{matrix}.{part}"] for part in ("packed", "scales", "zero_points")}
            for matrix in parts
        }

    def _quantize(self, names: list[str]) -> list[QuantizedTensor]:
        """Return the tensors that are joined to one matrix; what a file has in 4 bits is taken as it is."""
        quantization = self._quantization
        if quantization is QuantFormat.INT4:
            carried = [self._checkpoint.read_groups(name) for name in names]
            if all(groups is not None for groups in carried):
                return [carry(groups) for groups in carried if groups is not None]
        if any(part in name for name in names for part in _QUERIES_KEYS_VALUES):
            quantization = QuantFormat.INT8
        return [quantize(self._checkpoint.read(name), quantization) for name in names]


def mapped_tensor(stored: dict[str, StoredArray], shape: tuple[int, int]) -> QuantizedTensor:
    """Return a matrix of the cache, `[outputs, inputs]`, without reading it."""
    packed, scales, zero_points = (stored[part].mapped() for part in ("packed", "scales", "zero_points"))
    groups = scales.shape[1]
    bits = stored_bits(stored)
    if bits == 4:
        halves = np.stack((zero_points & 0x0F, zero_points >> 4), axis=-1)
        zero_points = np.ascontiguousarray(halves.reshape(len(zero_points), -1)[:, :groups])
    return QuantizedTensor(bits, stored_group_size(stored), shape, packed, scales, zero_points)


def stored_bits(stored: dict[str, StoredArray]) -> int:
    """Return the bits of a value of a matrix of the cache: some of an int4 block have 8."""
    return stored["packed"].shape[2] * 8 // stored_group_size(stored)


def stored_group_size(stored: dict[str, StoredArray]) -> int:
    """Return the values of a group of a matrix of the cache."""
    return group_size_of(stored["packed"].shape[2])


def blocks_dir() -> Path:
    """Return the directory with one directory of quantized blocks per manifest."""
    return cache_dir() / "blocks"


def damaged_files(manifest: str) -> tuple[Path, ...]:
    """Return the files of a checkpoint's quantized blocks that are not as long as they say; they are made
    again when they are needed."""
    files = sorted((blocks_dir() / manifest).glob("*.safetensors"))
    return tuple(path for path in files if not is_whole(path))


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
    groups = max(tensor.scales.shape[1] for tensor in tensors)

    def joined(arrays: list[Array]) -> Array:
        """Matrices without corrections get some of zero beside those that have them."""
        if len(arrays) == 1 and arrays[0].shape[1] == groups:
            return arrays[0]
        widths = [[(0, 0), (0, groups - array.shape[1])] + [(0, 0)] * (array.ndim - 2) for array in arrays]
        return np.concatenate([np.pad(array, width) for array, width in zip(arrays, widths, strict=True)])

    zero_points = joined([tensor.zero_points for tensor in tensors])
    if tensors[0].bits == 4:  # two to a byte, each row padded to whole bytes
        padded = np.pad(zero_points, ((0, 0), (0, zero_points.shape[1] % 2)))
        zero_points = padded[:, 0::2] | (padded[:, 1::2] << 4)
    return {
        "packed": joined([tensor.packed for tensor in tensors]),
        "scales": joined([tensor.scales for tensor in tensors]),
        "zero_points": zero_points,
    }
