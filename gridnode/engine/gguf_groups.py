"""Tensors of GGUF files that are in groups of 4 bits already: they are carried over, not rounded again.

The layouts of a group's bytes are those of ggml, as the package `gguf` dequantizes them.
"""

from __future__ import annotations

from collections.abc import Callable

import gguf
import numpy as np
from gguf.quants import Q4_K

from gridnode.engine.executor import Array
from gridnode.engine.quantization import Groups

GROUP_SIZE = 32
_F16_BYTES = 2
_K_GROUPS = 8
"""Groups of a block of Q4_K, which have two factors in common."""


def groups_of_tensor(tensor: gguf.ReaderTensor) -> Groups | None:
    """Return a matrix as it is stored, or None if that is not in groups of 4 bits."""
    split = _SPLITS.get(tensor.tensor_type)
    if split is None:
        return None
    block_bytes = gguf.GGML_QUANT_SIZES[tensor.tensor_type][1]
    outputs = int(tensor.shape[-1])
    values, scales, offsets = split(np.asarray(tensor.data).reshape(-1, block_bytes))
    return Groups(
        values.reshape(outputs, -1, GROUP_SIZE), scales.reshape(outputs, -1), offsets.reshape(outputs, -1)
    )


def _split_q4_0(blocks: Array) -> tuple[Array, Array, Array]:
    scales = _factors(blocks, 0)
    return _nibbles(blocks[:, _F16_BYTES:]), scales, -8 * scales


def _split_q4_1(blocks: Array) -> tuple[Array, Array, Array]:
    return _nibbles(blocks[:, 2 * _F16_BYTES :]), _factors(blocks, 0), _factors(blocks, 1)


def _split_q4_k(blocks: Array) -> tuple[Array, Array, Array]:
    start = 2 * _F16_BYTES
    scales, minima = Q4_K.get_scale_min(blocks[:, start : start + Q4_K.K_SCALE_SIZE])
    values = _nibbles(blocks[:, start + Q4_K.K_SCALE_SIZE :].reshape(-1, GROUP_SIZE), GROUP_SIZE)
    return (
        values.reshape(len(blocks), _K_GROUPS, GROUP_SIZE),
        _factors(blocks, 0) * scales.astype(np.float32),
        -_factors(blocks, 1) * minima.astype(np.float32),
    )


def _factors(blocks: Array, index: int) -> Array:
    """Return one of the float16 numbers that the blocks begin with, float32 `[blocks, 1]`."""
    start = index * _F16_BYTES
    number = np.ascontiguousarray(blocks[:, start : start + _F16_BYTES])
    return number.view(np.float16).astype(np.float32)


def _nibbles(packed: Array, num_low: int = GROUP_SIZE // 2) -> Array:
    """Return values of 4 bits: first the low halves of `num_low` bytes, then the high ones."""
    pieces = packed.reshape(-1, num_low)
    values: Array = np.concatenate((pieces & 0x0F, pieces >> 4), axis=-1)
    return values


_SPLITS: dict[int, Callable[[Array], tuple[Array, Array, Array]]] = {
    gguf.GGMLQuantizationType.Q4_0: _split_q4_0,
    gguf.GGMLQuantizationType.Q4_1: _split_q4_1,
    gguf.GGMLQuantizationType.Q4_K: _split_q4_k,
}
