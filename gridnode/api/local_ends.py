"""The ends of a model, in this process: embeddings, final norm and head; one layer stands for all blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from gridnode.engine.checkpoint import Checkpoint, block_of
from gridnode.engine.torch_model import blocks_path, empty_model, part_of
from gridnode.engine.torch_span import to_torch

# The layers of these families return a tuple, of which the model takes the first.
_TUPLE_FAMILIES = frozenset({"bloom", "falcon"})


class BlocksAsLayer(nn.Module):
    """What the model of `transformers` has in the place of its layers: the blocks of the swarm."""

    def __init__(self, blocks: nn.Module, family: str) -> None:
        super().__init__()
        self._call = blocks.__call__  # not as a child: the model would count their parameters as its own
        self._returns_tuple = family in _TUPLE_FAMILIES

    def forward(
        self, hidden_states: torch.Tensor, past_key_values: Any = None, layer_past: Any = None, **_: object
    ) -> Any:
        """Return what a layer of the family returns."""
        cache = layer_past if past_key_values is None else past_key_values
        result = self._call(hidden_states, past_key_values=cache)
        return (result,) if self._returns_tuple else result


def model_with_ends(
    checkpoint: Checkpoint, auto_class: Any, dtype: torch.dtype, **overrides: Any
) -> tuple[Any, str]:
    """Return a model of `transformers` with one empty block, and where the whole one has its blocks.

    What the checkpoint lacks, a new head for classes, is initialised and wants gradients; the rest is frozen.

    Args:
        overrides: Fields of its configuration: `num_labels`, ...

    Raises:
        BadCheckpoint: a tensor is missing.
    """
    config = {**checkpoint.config, **overrides}
    whole = empty_model(config, dtype, auto_class=auto_class)
    path = blocks_path(whole)
    model = part_of(whole, path, 0, 1)
    layers = layers_of(model)
    in_layers = {id(parameter) for parameter in layers.parameters()}
    own_names = [name for name, parameter in model.named_parameters() if id(parameter) not in in_layers]
    for name in own_names:
        parent_name, _, attribute = name.rpartition(".")
        parent = model.get_submodule(parent_name)
        stored = _stored_name(model, parent, name, checkpoint)
        if stored is None:
            setattr(
                parent, attribute, nn.Parameter(torch.empty_like(getattr(parent, attribute), device="cpu"))
            )
            model._init_weights(parent)
        else:
            weight = to_torch(checkpoint.read(stored)).to(dtype)
            setattr(parent, attribute, nn.Parameter(weight, requires_grad=False))
    head = model.get_output_embeddings()
    if head is not None and checkpoint.head_name == checkpoint.embed_name:
        head.weight = model.get_input_embeddings().weight
    _describe_whole(model.config, checkpoint.facts.num_blocks)
    return model, path


def layers_of(model: Any) -> nn.ModuleList:
    """Return the list of layers of a model of `transformers`."""
    return next(child for child in model.base_model.children() if isinstance(child, nn.ModuleList))


def linear_layers(model: Any) -> dict[str, tuple[int, int]]:
    """Return the features in and out of every linear layer of a block, by its path in the block."""
    return {
        path: (module.in_features, module.out_features)
        for path, module in layers_of(model)[0].named_modules()
        if isinstance(module, nn.Linear)
    }


def put_blocks(model: Any, blocks: nn.Module) -> None:
    """Let `blocks` take the place of all layers."""
    layers = layers_of(model)
    layers[0] = BlocksAsLayer(blocks, model.config.model_type)


def _stored_name(model: Any, parent: nn.Module, name: str, checkpoint: Checkpoint) -> str | None:
    """Return how the checkpoint calls a parameter; None for one that it need not have."""
    if parent is model.get_input_embeddings():
        return checkpoint.embed_name
    if parent is model.get_output_embeddings() and name.endswith("weight"):
        return checkpoint.head_name
    for candidate in _spellings(model, name):
        if candidate in checkpoint.tensors and block_of(candidate) is None:
            return candidate
    if "." not in name or name.split(".", 1)[0] != model.base_model_prefix:
        return None  # a head of this task, to be trained
    checkpoint.entry(name)  # tells what is missing
    return name


def _spellings(model: Any, name: str) -> Iterator[str]:
    prefix = f"{model.base_model_prefix}."
    yield name
    yield name.removeprefix(prefix)
    yield prefix + name


def _describe_whole(config: Any, num_blocks: int) -> None:
    """Let the configuration tell of every block again, and none that a cache would have to cut short.

    The windows of sliding attention are the business of the blocks: the cache here only counts positions.
    """
    config.num_hidden_layers = num_blocks
    if getattr(config, "layer_types", None):
        config.layer_types = ["full_attention"] * num_blocks
    elif getattr(config, "sliding_window", None):
        config.sliding_window = None
