"""Weights in 4 or 8 bits: groups of values along the input dimension, each with a scale and a zero point.

The layout is that of ONNX Runtime's `MatMulNBits`, so that one file in the cache serves every executor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gridnode.core.models import QuantFormat
from gridnode.engine.executor import Array

DEFAULT_GROUP_SIZE = 32
# Shrinking the range clips the outliers and makes the steps finer for all others. The best of these by
# squared error is kept, for each group; no calibration data is needed.
_SHRINKS = (1.0, 0.93, 0.86, 0.79)
# Rows quantized at a time: bounds the float copies of a large matrix.
_ROWS_AT_A_TIME = 1024


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedTensor:
    """A weight matrix `[outputs, inputs]` in few bits.

    A value is `(q - zero_point) * scale` with the scale and the zero point of its group.
    """

    bits: int
    group_size: int
    shape: tuple[int, int]
    """Outputs and inputs of the matrix, without padding."""

    packed: Array
    """uint8 `[outputs, groups, group_size * bits / 8]`; of two 4-bit values the first is the low half."""

    scales: Array
    """float32 `[outputs, groups]`."""

    zero_points: Array
    """uint8 `[outputs, groups]`, one value each."""

    @property
    def num_bytes(self) -> int:
        """Bytes of the three arrays."""
        return self.packed.nbytes + self.scales.nbytes + self.zero_points.nbytes

    def values(self) -> Array:
        """Return the quantized values, uint8 `[outputs, groups, group_size]`."""
        if self.bits == 8:
            return self.packed
        halves = np.stack((self.packed & 0x0F, self.packed >> 4), axis=-1)
        return halves.reshape(*self.packed.shape[:2], self.group_size)

    def dequantize(self) -> Array:
        """Return the matrix as float32 `[outputs, inputs]`."""
        steps = self.values().astype(np.float32) - self.zero_points[..., None]
        matrix = (steps * self.scales[..., None]).reshape(self.shape[0], -1)
        return np.ascontiguousarray(matrix[:, : self.shape[1]])


def quantize(
    weight: Array, quantization: QuantFormat, *, group_size: int = DEFAULT_GROUP_SIZE
) -> QuantizedTensor:
    """Return `weight` (`[outputs, inputs]`, any float) in the bits of `quantization`.

    Inputs that do not fill the last group are padded with zeros.

    Raises:
        ValueError: `quantization` is NONE, or the group size is not a power of two of at least 16.
    """
    bits = {QuantFormat.INT8: 8, QuantFormat.INT4: 4}.get(quantization)
    if bits is None:
        raise ValueError(f"{quantization} has no bits to quantize to")
    if group_size < 16 or group_size & (group_size - 1):
        raise ValueError(f"group size must be a power of two of at least 16, got {group_size}")
    pieces = [
        _quantize_rows(weight[start : start + _ROWS_AT_A_TIME].astype(np.float32), bits, group_size)
        for start in range(0, weight.shape[0], _ROWS_AT_A_TIME)
    ]
    values, scales, zero_points = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    packed = values if bits == 8 else values[..., 0::2] | (values[..., 1::2] << 4)
    return QuantizedTensor(
        bits,
        group_size,
        (weight.shape[0], weight.shape[1]),
        np.ascontiguousarray(packed),
        scales,
        zero_points,
    )


def _quantize_rows(rows: Array, bits: int, group_size: int) -> tuple[Array, Array, Array]:
    """Return values `[rows, groups, group_size]`, scales and zero points `[rows, groups]`."""
    padding = -rows.shape[1] % group_size
    grouped = np.pad(rows, ((0, 0), (0, padding))).reshape(rows.shape[0], -1, group_size)
    low = np.minimum(grouped.min(axis=-1), 0.0)  # zero stays exact, which padding relies on
    high = np.maximum(grouped.max(axis=-1), 0.0)
    best = _round_to(grouped, low, high, bits)
    if bits == 8:  # 256 steps leave nothing to gain
        return best[:3]
    for shrink in _SHRINKS[1:]:
        tried = _round_to(grouped, low * shrink, high * shrink, bits)
        is_better = tried[3] < best[3]
        best = (
            np.where(is_better[..., None], tried[0], best[0]),
            np.where(is_better, tried[1], best[1]),
            np.where(is_better, tried[2], best[2]),
            np.where(is_better, tried[3], best[3]),
        )
    return best[:3]


def _round_to(grouped: Array, low: Array, high: Array, bits: int) -> tuple[Array, Array, Array, Array]:
    """Return values, scales, zero points and the squared error of each group."""
    steps = 2**bits - 1
    scales = ((high - low) / steps).astype(np.float32)
    scales = np.where(scales > 0, scales, np.float32(1.0))
    zero_points = np.clip(np.rint(-low / scales), 0, steps)
    values = np.rint(grouped / scales[..., None]) + zero_points[..., None]
    np.clip(values, 0, steps, out=values)
    errors = ((values - zero_points[..., None]) * scales[..., None] - grouped) ** 2
    return values.astype(np.uint8), scales, zero_points.astype(np.uint8), errors.sum(axis=-1)
