"""TorchSpan: consecutive blocks built from `transformers`' own classes. The reference.

A span is a small model of the same family: the configuration is cut to the span's blocks and the tensors
are renumbered, so that masks, rotary embeddings and sliding windows are computed by the family's own code.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.engine.allocator import returning_memory
from gridnode.engine.checkpoint import Checkpoint
from gridnode.engine.executor import Array, Output, SpanCache, SpanStep
from gridnode.engine.quantization import quantize
from gridnode.engine.quantized_linear import QuantizedLinear
from gridnode.engine.torch_cache import TorchCache
from gridnode.engine.torch_tuning import TorchTuning
from gridnode.errors import BadCheckpoint, BadInput

# Families whose models are a list of blocks between embeddings and a norm, and nothing else that a later hop
# would do twice. Each is compared with transformers in tests/unit/engine/test_families.py.
FAMILIES = frozenset(
    {
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "phi3",
        "gemma",
        "gemma2",
        "gemma3_text",
        "olmo2",
        "granite",
        "smollm3",
    }
)

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TorchSpan:
    """A `gridnode.engine.executor.SpanExecutor` on torch.

    Args:
        dtype: `float32` or `bfloat16`: of unquantized weights, hidden states and the KV cache.
        on_block: Called after each block that is loaded.

    Raises:
        BadInput: the family is not supported.
        BadCheckpoint: a tensor is missing or has the wrong shape.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        span: Span,
        *,
        dtype: str = "float32",
        quantization: QuantFormat = QuantFormat.NONE,
        on_block: Callable[[], None] = lambda: None,
    ) -> None:
        facts = checkpoint.facts
        if facts.family not in FAMILIES:
            raise BadInput(
                f"models of the family {facts.family!r} are not supported yet; supported: "
                f"{', '.join(sorted(FAMILIES))}"
            )
        self._span = span
        self._facts = facts
        self._dtype = _DTYPES[dtype]
        self._quantization = quantization
        self._has_embeddings = span.start == 0
        self._has_head = span.end == facts.num_blocks
        self._model: Any = empty_model(checkpoint.config, span, self._dtype)
        with returning_memory():
            self._load(checkpoint, on_block)
        self._views: dict[tuple[Span, bool], Any] = {}

    @property
    def span(self) -> Span:
        """The blocks that are loaded."""
        return self._span

    @property
    def has_embeddings(self) -> bool:
        """Whether steps at block 0 may give token ids."""
        return self._has_embeddings

    @property
    def has_head(self) -> bool:
        """Whether steps that end at the last block may ask for logits."""
        return self._has_head

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of KV cache that one token of one row takes in one block."""
        return self._facts.kv_bytes_per_token(1, bytes_per_value=self._dtype.itemsize)

    def allocate(
        self, span: Span, *, batch: int, max_tokens: int, tuned: Mapping[str, Array] | None = None
    ) -> SpanCache:
        """Return an empty cache for the blocks of `span`, and what to add to them."""
        tuning = self._tuning(span, tuned, batch=batch) if tuned else None
        return TorchCache(span, num_layers=len(self._span), batch=batch, max_tokens=max_tokens, tuning=tuning)

    def _tuning(
        self, span: Span, tuned: Mapping[str, Array], *, batch: int, is_trained: bool = False
    ) -> TorchTuning:
        return TorchTuning(
            tuned,
            span,
            self._view(span, with_norm=False).base_model.layers,
            hidden_size=self._facts.hidden_size,
            batch=batch,
            is_trained=is_trained,
        )

    @torch.inference_mode()
    def compute(self, steps: Sequence[SpanStep]) -> list[Array | None]:
        """Run `steps` one after another."""
        return [self._compute_tuned(step) for step in steps]

    def _compute_tuned(self, step: SpanStep) -> Array | None:
        assert isinstance(step.cache, TorchCache)
        if step.cache.tuning is None:
            return self._compute(step)
        with step.cache.tuning.applied(step.position):
            return self._compute(step)

    def _compute(self, step: SpanStep) -> Array | None:
        cache = step.cache
        assert isinstance(cache, TorchCache)
        cache.position = step.position
        hidden = self._input(step)
        wants_logits = step.output in (Output.LOGITS, Output.ALL_LOGITS)
        positions = torch.arange(step.position, step.position + hidden.shape[1]).expand(hidden.shape[0], -1)
        arguments: dict[str, Any] = {
            "inputs_embeds": hidden,
            "position_ids": positions,
            "past_key_values": cache,
            "use_cache": True,
        }
        model = self._view(cache.span, with_norm=wants_logits or step.output is Output.NORMED)
        if wants_logits:
            arguments["logits_to_keep"] = 1 if step.output is Output.LOGITS else 0
            logits: Array = model(**arguments).logits.float().numpy()
            return logits
        result = model.base_model(**arguments).last_hidden_state
        return None if step.output is Output.NONE else _to_numpy(result)

    def backward(
        self, span: Span, hidden: Array, gradient: Array, tuned: Mapping[str, Array] | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Return the gradients with respect to `hidden` and `tuned`; the blocks are computed again for it."""
        tuning = self._tuning(span, tuned or {}, batch=hidden.shape[0], is_trained=True)
        inputs = to_torch(hidden).to(self._dtype).requires_grad_()
        positions = torch.arange(inputs.shape[1]).expand(inputs.shape[0], -1)
        base = self._view(span, with_norm=False).base_model
        with tuning.applied(0):
            output = base(inputs_embeds=inputs, position_ids=positions, use_cache=False).last_hidden_state
        [result, *of_tuned] = torch.autograd.grad(
            output,
            [inputs, *tuning.tensors.values()],
            to_torch(gradient).to(output.dtype),
            materialize_grads=True,
        )
        return _to_numpy(result), dict(zip(tuning.tensors, map(_to_numpy, of_tuned), strict=True))

    def _input(self, step: SpanStep) -> torch.Tensor:
        if step.token_ids is not None:
            embedded: torch.Tensor = self._model.get_input_embeddings()(torch.from_numpy(step.token_ids))
            return embedded
        assert step.hidden is not None
        return to_torch(step.hidden).to(self._dtype)

    def _view(self, span: Span, *, with_norm: bool) -> Any:
        """Return a model of the blocks of `span` alone; it shares every weight with the whole one."""
        view = self._views.get((span, with_norm))
        if view is None:
            first = span.start - self._span.start
            view = _shallow_copy(self._model)
            base = _shallow_copy(self._model.base_model)
            setattr(view, self._model.base_model_prefix, base)
            base.layers = base.layers[first : first + len(span)]
            base.config = view.config = _cut_config(self._model.config, first, len(span))
            if not with_norm:
                base.norm = nn.Identity()
            self._views[span, with_norm] = view
        return view

    def _load(self, checkpoint: Checkpoint, on_block: Callable[[], None]) -> None:
        """Fill the empty model, one tensor at a time, so that no second copy of the span exists."""
        if self._has_embeddings:
            self._set(checkpoint, "model.embed_tokens.weight", checkpoint.embed_name)
        for block_index in self._span:
            local = f"model.layers.{block_index - self._span.start}."
            names = checkpoint.block_names(block_index)
            for name in names:
                self._set(checkpoint, local + name.split(f".{block_index}.", 1)[1], name)
            self._check_complete(local, block_index)
            on_block()
        if self._has_head:
            self._set(checkpoint, "model.norm.weight", checkpoint.norm_name)
            self._set_head(checkpoint)

    def _set_head(self, checkpoint: Checkpoint) -> None:
        """Load the head; one that is tied to embeddings of this same span shares their memory."""
        is_tied = checkpoint.head_name == checkpoint.embed_name
        if is_tied and self._has_embeddings and self._quantization is QuantFormat.NONE:
            self._model.get_output_embeddings().weight = self._model.get_input_embeddings().weight
        else:
            self._set(checkpoint, "lm_head.weight", checkpoint.head_name)

    def _set(self, checkpoint: Checkpoint, target: str, name: str) -> None:
        """Put the tensor `name` where the model has `target`, quantized if it is a matrix of a block."""
        path, _, attribute = target.rpartition(".")
        try:
            module = self._model.get_submodule(path)
            expected = tuple(getattr(module, attribute).shape)
        except AttributeError as exc:
            raise BadCheckpoint(f"{name!r} has no place in a {self._facts.family} block") from exc
        entry = checkpoint.entry(name)
        if entry.shape != expected:
            raise BadCheckpoint(
                f"{name!r} has shape {entry.shape}, {expected} expected; fetch the checkpoint again"
            )
        tensor = checkpoint.read(name)
        is_quantized = isinstance(module, nn.Linear) and attribute == "weight"
        if is_quantized and self._quantization is not QuantFormat.NONE:
            # The head keeps 8 bits: it decides between tokens that differ little.
            quantization = QuantFormat.INT8 if target == "lm_head.weight" else self._quantization
            quantized = QuantizedLinear(quantize(tensor, quantization), None)
            parent, _, child = path.rpartition(".")
            quantized.bias = module.bias  # filled by its own tensor, before or after
            setattr(self._model.get_submodule(parent), child, quantized)
            return
        parameter = nn.Parameter(to_torch(tensor).to(self._dtype), requires_grad=False)
        setattr(module, attribute, parameter)

    def _check_complete(self, local: str, block_index: int) -> None:
        block = self._model.get_submodule(local.rstrip("."))
        missing = [name for name, parameter in block.named_parameters() if parameter.is_meta]
        if missing:
            raise BadCheckpoint(f"block {block_index} lacks {missing[0]!r}; fetch the checkpoint again")


def empty_model(
    config: dict[str, Any], span: Span, dtype: torch.dtype, *, auto_class: Any = AutoModelForCausalLM
) -> Any:
    """Return a model of as many blocks as `span` without weights."""
    family = config["model_type"]
    try:
        whole = AutoConfig.for_model(**config)
        with torch.device("meta"):
            model = auto_class.from_config(_cut_config(whole, span.start, len(span)), dtype=dtype)
    except (ValueError, TypeError, KeyError) as exc:
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


def to_torch(array: Array) -> torch.Tensor:
    """Return a tensor that shares memory with `array`; torch and numpy spell bfloat16 differently."""
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _to_numpy(tensor: torch.Tensor) -> Array:
    if tensor.dtype is torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.contiguous().numpy()
