"""A linear layer over a `QuantizedTensor`: the reference, which every device and gradients can use."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from gridnode.engine.quantization import QuantizedTensor

# Rows dequantized at a time: the float copy stays in the processor's cache.
_ROWS_AT_A_TIME = 256


class QuantizedLinear(nn.Module):
    """`y = x W^T + b` with `W` in 4 or 8 bits. Frozen: gradients reach `x`, never `W`.

    torch's own 4-bit kernel for CPUs was measured at 1.7 times the time of this in float32, and it
    knows no groups of 8-bit values; the fast path of CPUs is OnnxSpan.
    """

    packed: torch.Tensor
    scales: torch.Tensor
    zero_points: torch.Tensor

    def __init__(self, weight: QuantizedTensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self._bits = weight.bits
        self._num_groups = weight.num_groups
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.register_buffer("packed", torch.from_numpy(weight.packed))
        self.register_buffer("scales", torch.from_numpy(weight.scales))
        self.register_buffer("zero_points", torch.from_numpy(weight.zero_points))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return `[..., out_features]` for `[..., in_features]`."""
        parts = [
            functional.linear(hidden, self.dequantized(start, start + _ROWS_AT_A_TIME).to(hidden.dtype))
            for start in range(0, self.out_features, _ROWS_AT_A_TIME)
        ]
        result = torch.cat(parts, dim=-1)
        return result if self.bias is None else result + self.bias

    def dequantized(self, start: int, end: int) -> torch.Tensor:
        """Return some rows of the matrix as float32; see `QuantizedTensor.dequantize`."""
        values = self.packed[start:end]
        if self._bits == 4:
            values = torch.stack((values & 0x0F, values >> 4), dim=-1).flatten(-2)
        steps = values.float() - self.zero_points[start:end, :, None]
        matrix = steps * self.scales[start:end, :, None]
        inputs, behind = matrix[:, : self._num_groups], matrix[:, self._num_groups :]
        if behind.shape[1]:
            inputs = inputs + behind.flatten(-2)[:, : self._num_groups, None]
        return inputs.flatten(-2)[:, : self.in_features]


class QuantizedExperts(nn.Module):
    """Matrices of a mixture's experts in 4 or 8 bits: `experts[i]` is `[out_features, in_features]`.

    Takes the place of a parameter `[experts, out_features, in_features]` that is read one expert at a time.

    Args:
        weight: The experts' matrices below each other.
    """

    def __init__(self, weight: QuantizedTensor, num_experts: int) -> None:
        super().__init__()
        self._rows_each = weight.shape[0] // num_experts
        self._rows = QuantizedLinear(weight, None)

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        """Return the matrix of one expert, float32."""
        start = int(index) * self._rows_each
        return self._rows.dequantized(start, start + self._rows_each)
