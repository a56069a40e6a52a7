"""LoRA matrices that their owner trains through the swarm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gridnode.engine.adapter_file import read_adapter, write_adapter
from gridnode.engine.tuned_tensors import LORA_A, LORA_B
from gridnode.errors import BadInput

# What is adapted if nobody says: the projections that decide what attention looks for and takes.
_USUAL_TARGETS = ("q_proj", "v_proj", "query_key_value", "c_attn", "qkv_proj")


class LoraTuning(nn.Module):
    """Low-rank matrices beside the linear layers of the blocks of `model`.

    The weights and their optimizer stay here. Nodes add the matrices to their blocks for each session or
    gradient that asks for it, within the limits of `gridnode.wire.tuning`. Adding one to a model is enough:
    its parameters are not those of the model, give them to the optimizer.

    Args:
        model: A model of `AutoDistributedModel...`.
        rank: Width between the two matrices.
        alpha: The result is multiplied with `alpha / rank`.
        targets: Ends of the names of the layers; None takes the usual ones of attention.

    Raises:
        BadInput: the blocks have no such layers.
    """

    def __init__(
        self, model: Any, *, rank: int = 8, alpha: float = 16.0, targets: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.rank, self.alpha = rank, alpha
        self._blocks = [model.blocks]  # in a list: it is no part of this module
        layers = model.blocks.remote.linear_layers
        wanted = tuple(targets or _USUAL_TARGETS)
        chosen = {path: widths for path, widths in layers.items() if path.rpartition(".")[2] in wanted}
        if not chosen or rank < 1:
            known = ", ".join(sorted({path.rpartition(".")[2] for path in layers}))
            raise BadInput(f"no layer of the blocks is called {' or '.join(wanted)}; there are: {known}")
        self.matrices = nn.ParameterDict()
        for block_index in model.blocks.span:
            for path, (num_in, num_out) in chosen.items():
                a = nn.Parameter(torch.empty(rank, num_in))
                nn.init.kaiming_uniform_(a, a=math.sqrt(5))
                self.matrices[_key(f"{block_index}.{path}.{LORA_A}")] = a
                self.matrices[_key(f"{block_index}.{path}.{LORA_B}")] = nn.Parameter(
                    torch.zeros(num_out, rank)
                )
        model.blocks.tunings.append(self)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return what is added to the blocks."""
        scale = self.alpha / self.rank
        return {
            _name(key): matrix * scale if key.endswith(LORA_B) else matrix
            for key, matrix in self.matrices.items()
        }

    def remove(self) -> None:
        """Leave the blocks as they were. Safe to call more than once."""
        [blocks] = self._blocks
        if self in blocks.tunings:
            blocks.tunings.remove(self)

    def save(self, directory: str | Path) -> None:
        """Write the adapter in the format of PEFT: for it, and for `gridnode up --adapter`."""
        [blocks] = self._blocks
        values = {_name(key): matrix.detach().cpu().numpy() for key, matrix in self.matrices.items()}
        write_adapter(
            Path(directory),
            values,
            blocks_path=blocks.remote.blocks_path,
            rank=self.rank,
            alpha=self.alpha,
            base=blocks.remote.model.name,
        )

    @classmethod
    def load(cls, model: Any, location: str | Path) -> LoraTuning:
        """Return an adapter in the format of PEFT, to go on training it.

        Raises:
            BadCheckpoint: it cannot be read.
            BadInput: it is for another model, or its layers have different ranks.
        """
        adapter = read_adapter(str(location))
        targets = sorted({name.rpartition(".")[0].rpartition(".")[2] for name in adapter.tensors})
        tuning = cls(model, rank=adapter.rank, alpha=adapter.alpha, targets=targets)
        own = {_name(key): matrix for key, matrix in tuning.matrices.items()}
        fits = own.keys() == adapter.tensors.keys() and all(
            own[name].shape == array.shape for name, array in adapter.tensors.items()
        )
        is_plain = all(scale == tuning.alpha / tuning.rank for scale in adapter.scales.values())
        if not fits or not is_plain:
            tuning.remove()
            raise BadInput(
                f"the adapter {location} adapts other layers than this model has, or not all alike"
            )
        with torch.no_grad():
            for name, array in adapter.tensors.items():
                own[name].copy_(torch.from_numpy(array))
        return tuning


def _key(name: str) -> str:
    """Return `name` as torch takes it: without dots."""
    return name.replace(".", "/")


def _name(key: str) -> str:
    return key.replace("/", ".")
