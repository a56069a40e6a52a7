"""A linear layer over 4 bits that uses torch's own kernel: for graphics cards.

On `cuda` and `mps` it was not run: no such device was there. torch has the same kernel for CPUs, with which
the tests compare the layout of scales and zero points, and the gradients; on CPUs OnnxSpan is faster.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from gridnode.engine.quantization import QuantizedTensor

_KERNEL_GROUP_SIZES = frozenset({32, 64, 128, 256})
# Of the kernel for CUDA: it takes the inputs in tiles of 8 x 16 values, and 8 outputs at a time.
_INNER_TILES = 8
_INPUTS_MULTIPLE = _INNER_TILES * 16
_OUTPUTS_MULTIPLE = 64
# The kernel subtracts this from every value.
_MIDDLE = 8


def has_kernel(weight: QuantizedTensor, device: torch.device) -> bool:
    """Return whether torch's kernel takes a matrix of this shape on `device`; none takes groups of 8 bits."""
    outputs, inputs = weight.shape
    return (
        device.type in ("cuda", "mps")
        and weight.bits == 4
        and weight.group_size in _KERNEL_GROUP_SIZES
        and inputs % _INPUTS_MULTIPLE == 0
        and outputs % _OUTPUTS_MULTIPLE == 0
    )


class Int4Linear(nn.Module):
    """`y = x W^T + b` with `W` in 4 bits, computed in bfloat16. Frozen: gradients reach `x`, never `W`."""

    packed: torch.Tensor
    scales_and_zeros: torch.Tensor

    def __init__(self, weight: QuantizedTensor, bias: torch.Tensor | None, device: torch.device) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self._group_size = weight.group_size
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        groups = slice(weight.num_groups)
        scales = weight.scales[:, groups]
        zeros = (_MIDDLE - weight.zero_points[:, groups].astype(np.float32)) * scales + weight.corrections()
        pairs = np.stack((scales, zeros), axis=-1).swapaxes(0, 1)  # [groups, outputs, 2]
        values = torch.from_numpy(weight.values()[:, groups].reshape(weight.shape[0], -1))
        self.register_buffer("packed", _packed(values, device))
        self.register_buffer(
            "scales_and_zeros", torch.from_numpy(np.ascontiguousarray(pairs)).to(device, torch.bfloat16)
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return `[..., out_features]` for `[..., in_features]`."""
        rows = hidden.reshape(-1, self.in_features)
        result: torch.Tensor = _Product.apply(rows, self)  # type: ignore[no-untyped-call]
        result = result.reshape(*hidden.shape[:-1], self.out_features).to(hidden.dtype)
        return result if self.bias is None else result + self.bias

    def product(self, rows: torch.Tensor) -> torch.Tensor:
        """Return `rows W^T`, bfloat16."""
        rows = rows.to(torch.bfloat16)
        kernel: Any = torch._weight_int4pack_mm
        if rows.device.type == "cpu":
            kernel = torch._weight_int4pack_mm_for_cpu
        result: torch.Tensor = kernel(rows, self.packed, self._group_size, self.scales_and_zeros)
        return result


class _Product(torch.autograd.Function):
    """The kernel has no gradient: the matrix for it is what the kernel makes of ones on a diagonal."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, layer: Int4Linear) -> torch.Tensor:
        ctx.layer = layer
        ctx.dtype = rows.dtype
        return layer.product(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        [gradient] = gradients
        layer: Int4Linear = ctx.layer
        ones = torch.eye(layer.in_features, dtype=torch.bfloat16, device=gradient.device)
        transposed = layer.product(ones)  # [in_features, out_features]
        return (gradient.to(torch.bfloat16) @ transposed.t()).to(ctx.dtype), None


def _packed(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return values of 4 bits, uint8 `[outputs, inputs]`, in the order of the kernel of `device`."""
    packed: torch.Tensor
    if device.type == "cpu":
        packed = torch._convert_weight_to_int4pack_for_cpu(values.to(torch.int32), 1)
        return packed
    pairs = (values[:, 0::2] << 4) | values[:, 1::2]
    packed = torch._convert_weight_to_int4pack(pairs.to(device), _INNER_TILES)
    return packed
