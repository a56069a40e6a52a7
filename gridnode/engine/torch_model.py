"""Models of `transformers` with some of their blocks and no weights: what TorchSpan fills and runs.

A span is a model of the same family with fewer blocks, so that masks, rotary embeddings, ALiBi and sliding
windows are computed by the family's own code. Nothing here knows a family by name.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from gridnode.engine.checkpoint import block_of
from gridnode.errors import BadCheckpoint, BadInput

# Kinds of blocks whose only memory of earlier tokens are keys and values.
_ATTENTION_KINDS = frozenset({"full_attention", "sliding_attention", "chunked_attention"})

# Numbers of a configuration that are not 0 where blocks share more than hidden states (Gemma 3n).
_SHARED = ("num_kv_shared_layers", "hidden_size_per_layer_input")


def empty_model(
    config: Mapping[str, Any], dtype: torch.dtype, *, auto_class: Any = AutoModelForCausalLM
) -> Any:
    """Return the whole model without weights: descriptions of tensors, some megabytes.

    Args:
        auto_class: Of `transformers`, which chooses the head.

    Raises:
        BadInput: the family is no decoder that `transformers` knows.
        BadCheckpoint: the configuration does not fit its family.
    """
    family = config.get("model_type", "")
    try:
        shape = AutoConfig.for_model(**config)
        shape._experts_implementation = "eager"  # which takes experts one at a time, also quantized ones
        with torch.device("meta"):
            model = auto_class.from_config(shape, dtype=dtype)
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        if family not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            raise BadInput(
                f"models of the family {family!r} are not supported: transformers has no decoder of that name"
            ) from exc
        raise BadCheckpoint(
            f"transformers cannot build a {family} model from this configuration: {exc}"
        ) from exc
    # Rotary frequencies and the like are computed, not stored. transformers computes them where it
    # initializes weights; those are still without memory, so that only the buffers get values.
    for module in model.modules():
        missing = {name: buffer for name, buffer in module.named_buffers(recurse=False) if buffer.is_meta}
        for name, buffer in missing.items():
            setattr(module, name, torch.empty_like(buffer, device="cpu"))
        if missing:
            model._init_weights(module)
    return model.eval()


def blocks_path(model: Any) -> str:
    """Return where a model keeps its blocks: `model.layers`, `transformer.h`, ...

    Raises:
        BadInput: it is not a list of blocks with keys and values, so that it cannot be cut between them.
    """
    config = model.config
    found = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
        and len(module) == config.num_hidden_layers
        and block_of(f"{path}.0.") == 0
    ]
    kinds = set(getattr(config, "layer_types", None) or []) - _ATTENTION_KINDS
    shares = any(getattr(config, name, None) for name in _SHARED)
    if not found or config.is_encoder_decoder or model._is_stateful or kinds or shares:
        what = f"blocks of {', '.join(sorted(kinds))}" if kinds else "more than a list of blocks"
        raise BadInput(
            f"models of the family {config.model_type!r} are not supported: they have {what}, which several "
            "nodes cannot compute one after another"
        )
    outermost: str = min(found, key=lambda path: path.count("."))
    return outermost


def part_of(model: Any, path: str, first: int, length: int) -> Any:
    """Return a model of some of the blocks at `path`; it shares every weight with the whole one."""
    part = owner = _shallow_copy(model)
    config = _cut_config(model.config, first, length)
    *parents, name = path.split(".")
    part.config = config
    for parent in parents:
        owner._modules[parent] = _shallow_copy(owner._modules[parent])
        owner = owner._modules[parent]
        owner.config = config
    owner._modules[name] = owner._modules[name][first : first + length]
    return part


@contextmanager
def between_blocks(blocks: nn.ModuleList, hidden: torch.Tensor | None) -> Iterator[list[torch.Tensor]]:
    """Run a model on what goes into its first block; inside, a forward appends what leaves the last one.

    Families differ in what they do to embeddings before the first block (scale them, norm them, add
    positions) and behind the last. The first hop of a route does the one, the last hop the other; all
    others compute it for nothing, on very little, and it is replaced here.

    Args:
        hidden: For the first block, instead of what the model makes of its inputs; None keeps that.
    """
    behind: list[torch.Tensor] = []

    def give(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        return ((hidden, *args[1:]), named) if args else (args, {**named, "hidden_states": hidden})

    def keep(_: nn.Module, __: tuple[Any, ...], result: Any) -> None:
        behind.append(result[0] if isinstance(result, tuple) else result)

    handles = [blocks[-1].register_forward_hook(keep)]
    if hidden is not None:
        handles.append(blocks[0].register_forward_pre_hook(give, with_kwargs=True))
    try:
        yield behind
    finally:
        for handle in handles:
            handle.remove()


def _cut_config(config: Any, start: int, length: int) -> Any:
    """Return `config` for some of its blocks: everything it says of each block is cut likewise."""
    cut = copy.deepcopy(config)
    for name, value in _block_lists(config):
        setattr(cut, name, value[start : start + length])
    cut.num_hidden_layers = length
    return cut


def _block_lists(config: Any) -> Iterator[tuple[str, list[Any]]]:
    for name, value in config.to_dict().items():
        if isinstance(value, list) and len(value) == config.num_hidden_layers and name != "architectures":
            yield name, value


def _shallow_copy(module: Any) -> Any:
    """Return a module that shares parameters and children, but can be given other children."""
    shallow = copy.copy(module)
    shallow._modules = dict(module._modules)
    return shallow
