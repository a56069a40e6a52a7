"""A linear layer over nf4: 4 bits of unequal steps, by the package bitsandbytes, for graphics cards.

On `cuda` it was not run: no such device was there. The package has the same functions for CPUs, with which
the tests compare products and gradients; on CPUs int4 is faster and closer to the weights.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import torch
from torch import nn

from gridnode.core.models import DeviceName
from gridnode.errors import BadInput

# Devices that the package was asked to compute on; what it has for others is younger than we can tell.
_DEVICES = ("cpu", "cuda")
_GROUP_SIZE = 64


def check_nf4(device: DeviceName) -> None:
    """Do nothing if weights can be nf4 on `device`.

    Raises:
        BadInput: they cannot; the message says what it takes.
    """
    if device not in _DEVICES:
        raise BadInput(f"nf4 weights are for {' and '.join(_DEVICES)}, not for {device}; use int4")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise BadInput(
            "nf4 weights need the package bitsandbytes, which is not installed: "
            "pip install 'gridnode[nf4]', or use int4"
        )


class Nf4Linear(nn.Module):
    """`y = x W^T + b` with `W` in nf4. Frozen: gradients reach `x`, never `W`."""

    packed: torch.Tensor

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, device: torch.device) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        packed, state = _library().functional.quantize_4bit(
            weight.to(device), blocksize=_GROUP_SIZE, quant_type="nf4", compress_statistics=False
        )
        self._state: Any = state
        self.register_buffer("packed", packed)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return `[..., out_features]` for `[..., in_features]`."""
        result: torch.Tensor = _library().matmul_4bit(hidden, self.packed.t(), quant_state=self._state)
        return result if self.bias is None else result + self.bias


def _library() -> Any:
    """Return bitsandbytes, which takes seconds to import."""
    # It warns that it could fetch a faster product for processors: they have int4, and we fetch no programs.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    import bitsandbytes

    return bitsandbytes
