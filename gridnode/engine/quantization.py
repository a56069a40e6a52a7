"""Weights in 4 or 8 bits: groups of values along the input dimension, each with a scale and a zero point.

The layout is that of ONNX Runtime's `MatMulNBits`, so that one file in the cache serves every executor. Its
zero points are whole steps. In 4 bits a step is large, and a zero point that must be one shifts a whole group
by up to half of it. So these matrices have a few inputs more, the sums of the groups of inputs, and the
weights of those are what the zero points lack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gridnode.core.models import LARGE_GROUP_SIZE, QuantFormat
from gridnode.engine.executor import Array

_SMALL_GROUP_SIZE = 32
_BITS_AND_GROUP_SIZE = {
    QuantFormat.INT8: (8, _SMALL_GROUP_SIZE),
    QuantFormat.INT4: (4, _SMALL_GROUP_SIZE),
    QuantFormat.INT4_G128: (4, LARGE_GROUP_SIZE),
}
# Shrinking the range clips the outliers and makes the steps finer for all others. The best of these by
# squared error is kept, for each group; no calibration data is needed.
_SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8)
# ONNX Runtime takes so many groups of 32 at once and the rest one by one: prompts take 28 % less time with 20
# groups than with 19, and 4 % less with 68 than with 66. Zeros behind the corrections fill them up. Of 128
# values it takes each by itself: 20 groups take 16 % longer than 17.
_GROUPS_MULTIPLE = {32: 4}
# Values quantized at a time: their float copies stay in the processor's cache, and small beside the matrix.
_VALUES_AT_A_TIME = 1 << 17


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedTensor:
    """A weight matrix `[outputs, inputs]` in few bits.

    A value is `(q - zero_point) * scale` with the scale and the zero point of its group. If there are more
    groups than the inputs fill, value `i` behind the inputs is added to all values of group `i`.
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
    def num_groups(self) -> int:
        """Groups of the inputs."""
        return groups_of(self.shape[1], self.group_size)

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

    def corrections(self) -> Array:
        """Return what is added to all values of each group of the inputs, float32 `[outputs, groups]`."""
        behind = self._dequantized(slice(self.num_groups, None)).reshape(self.shape[0], -1)
        if not behind.size:
            return np.zeros((self.shape[0], self.num_groups), dtype=np.float32)
        return behind[:, : self.num_groups]

    def dequantize(self) -> Array:
        """Return the matrix as float32 `[outputs, inputs]`."""
        matrix = self._dequantized(slice(self.num_groups)) + self.corrections()[..., None]
        return np.ascontiguousarray(matrix.reshape(self.shape[0], -1)[:, : self.shape[1]])

    def _dequantized(self, groups: slice) -> Array:
        steps = self.values()[:, groups].astype(np.float32) - self.zero_points[:, groups, None]
        matrix: Array = steps * self.scales[:, groups, None]
        return matrix


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Rows of a matrix in groups of 4 bits: a value is `q * scale + offset`."""

    values: Array
    """uint8 `[outputs, groups, group_size]`, less than 16."""

    scales: Array
    """float32 `[outputs, groups]`."""

    offsets: Array
    """float32 `[outputs, groups]`."""


def groups_of(inputs: int, group_size: int) -> int:
    """Return how many groups the inputs of a matrix fill, the last one perhaps in part."""
    return -(-inputs // group_size)


def quantize(weight: Array, quantization: QuantFormat) -> QuantizedTensor:
    """Return `weight` (`[outputs, inputs]`, any float) in the bits and groups of `quantization`.

    Inputs that do not fill groups of 128 come in groups of 32; if they do not fill these, zeros do.

    Raises:
        ValueError: `quantization` is not one of groups.
    """
    if quantization not in _BITS_AND_GROUP_SIZE:
        raise ValueError(f"{quantization} has no groups to quantize to")
    bits, group_size = _BITS_AND_GROUP_SIZE[quantization]
    if weight.shape[1] % group_size:  # without whole groups there are no corrections
        group_size = _SMALL_GROUP_SIZE
    rows = max(1, _VALUES_AT_A_TIME // weight.shape[1])
    pieces = [
        _quantize_rows(weight[start : start + rows].astype(np.float32), bits, group_size)
        for start in range(0, weight.shape[0], rows)
    ]
    arrays = [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
    return QuantizedTensor(bits, group_size, (weight.shape[0], weight.shape[1]), *arrays)


def carry(groups: Groups) -> QuantizedTensor:
    """Return a matrix that is in groups of 4 bits already: its values as they are, its offsets in 4 bits.

    It is exact if all offsets are whole steps: then there are no corrections.
    """
    outputs, num_groups, group_size = groups.values.shape
    zero_points, corrections = _in_steps(groups)
    arrays = _packed(groups.values, 4), groups.scales, zero_points
    if corrections.any():
        arrays = _with_corrections(groups, zero_points, corrections)
    return QuantizedTensor(4, group_size, (outputs, num_groups * group_size), *arrays)


def group_size_of(packed_bytes: int) -> int:
    """Return the values in a group that takes so many bytes, `QuantizedTensor.packed.shape[2]`."""
    return next(size for bits, size in _BITS_AND_GROUP_SIZE.values() if size * bits // 8 == packed_bytes)


def _quantize_rows(rows: Array, bits: int, group_size: int) -> tuple[Array, Array, Array]:
    """Return what `QuantizedTensor` holds of some rows."""
    padding = -rows.shape[1] % group_size
    grouped = np.pad(rows, ((0, 0), (0, padding))).reshape(rows.shape[0], -1, group_size)
    if bits == 8 or padding:  # 256 steps leave nothing to gain; sums need whole groups
        values, scales, zero_points = _rounded(grouped, bits)
        return _packed(values, bits), scales, zero_points
    groups = _searched(grouped)
    return _with_corrections(groups, *_in_steps(groups))  # also of zeros: other rows have them


def _rounded(grouped: Array, bits: int) -> tuple[Array, Array, Array]:
    """Return values, scales and zero points in steps from the least to the greatest value of each group."""
    steps = 2**bits - 1
    low = np.minimum(grouped.min(axis=-1), 0.0)  # zero stays exact, which padding relies on
    high = np.maximum(grouped.max(axis=-1), 0.0)
    scales = ((high - low) / steps).astype(np.float32)
    scales = np.where(scales > 0, scales, np.float32(1.0))
    zero_points = np.clip(np.rint(-low / scales), 0, steps)
    values = np.rint(grouped / scales[..., None]) + zero_points[..., None]
    np.clip(values, 0, steps, out=values)
    return values.astype(np.uint8), scales, zero_points.astype(np.uint8)


def _searched(grouped: Array) -> Groups:
    """Return the groups with the least squared error: of several ranges, with scales and offsets fitted."""
    size = grouped.shape[-1]
    low = np.minimum(grouped.min(axis=-1), 0.0)  # an offset is then never far from a zero point
    high = np.maximum(grouped.max(axis=-1), 0.0)
    sums = grouped.sum(axis=-1)
    best = np.full(low.shape, -np.inf, dtype=np.float32)
    found = Groups(np.empty(grouped.shape, np.uint8), np.empty_like(low), np.empty_like(low))
    for shrink in _SHRINKS:
        scales = (high - low) * np.float32(shrink / 15)
        scales[scales == 0] = 1.0
        start = low * np.float32((1 + shrink) / 2) + high * np.float32((1 - shrink) / 2)
        values = grouped * (1 / scales)[..., None]
        values -= (start / scales)[..., None]
        np.rint(values, out=values)
        np.clip(values, 0, 15, out=values)
        # The straight line through (value, weight) with the least squared error.
        of_values = values.sum(axis=-1)
        spread = np.einsum("rgi,rgi->rg", values, values) - of_values**2 / size
        together = np.einsum("rgi,rgi->rg", values, grouped) - of_values * sums / size
        fitted = np.where(spread > 0, together / np.maximum(spread, 1e-6), scales)
        explained = fitted * together  # the more, the less squared error is left
        is_better = explained > best
        np.copyto(best, explained, where=is_better)
        np.copyto(found.values, values, where=is_better[..., None], casting="unsafe")
        np.copyto(found.scales, fitted, where=is_better)
        np.copyto(found.offsets, (sums - fitted * of_values) / size, where=is_better)
    return found


def _in_steps(groups: Groups) -> tuple[Array, Array]:
    """Return the offsets of groups in whole steps, as zero points, and what these lack."""
    scales = groups.scales
    steps = np.divide(-groups.offsets, scales, out=np.zeros_like(scales), where=scales != 0)
    zero_points = np.clip(np.rint(steps), 0, 15)
    return zero_points.astype(np.uint8), groups.offsets + zero_points * scales


def _with_corrections(groups: Groups, zero_points: Array, corrections: Array) -> tuple[Array, Array, Array]:
    """Return what `QuantizedTensor` holds of rows in groups, with the corrections behind them."""
    group_size = groups.values.shape[-1]
    behind_groups = groups_of(corrections.shape[1], group_size)
    behind_groups += -(corrections.shape[1] + behind_groups) % _GROUPS_MULTIPLE.get(group_size, 1)
    padding = behind_groups * group_size - corrections.shape[1]
    corrections = np.pad(corrections, ((0, 0), (0, padding)))
    behind = _rounded(corrections.reshape(len(corrections), -1, group_size), 4)
    values, scales, zero_points = (
        np.concatenate((inputs, more), axis=1)
        for inputs, more in zip((groups.values, groups.scales, zero_points), behind, strict=True)
    )
    return _packed(values, 4), scales, zero_points


def _packed(values: Array, bits: int) -> Array:
    return values if bits == 8 else values[..., 0::2] | (values[..., 1::2] << 4)
