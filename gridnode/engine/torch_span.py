"""TorchSpan: consecutive blocks built from `transformers`' own classes. The reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch import nn

from gridnode.core.models import DeviceName, QuantFormat
from gridnode.core.spans import Span
from gridnode.engine.allocator import returning_memory
from gridnode.engine.block_cache import BlockCache, mapped_tensor
from gridnode.engine.checkpoint import Checkpoint
from gridnode.engine.executor import Array, Output, SpanCache, SpanStep
from gridnode.engine.int4_linear import Int4Linear, has_kernel
from gridnode.engine.nf4_linear import Nf4Linear
from gridnode.engine.quantization import QuantizedTensor, quantize
from gridnode.engine.quantized_linear import QuantizedExperts, QuantizedLinear
from gridnode.engine.torch_cache import TorchCache
from gridnode.engine.torch_model import between_blocks, blocks_path, empty_model, part_of
from gridnode.engine.torch_tuning import TorchTuning
from gridnode.engine.torch_weights import TorchWeights
from gridnode.errors import BadCheckpoint

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchSpan:
    """A `gridnode.engine.executor.SpanExecutor` on torch.

    Args:
        dtype: `float32`, `bfloat16` or `float16`: of unquantized weights, hidden states and the KV cache.
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
        device: DeviceName = "cpu",
        quantization: QuantFormat = QuantFormat.NONE,
        on_block: Callable[[], None] = lambda: None,
    ) -> None:
        facts = checkpoint.facts
        self._span = span
        self._facts = facts
        self._dtype = _DTYPES[dtype]
        self._device = torch.device(device)
        self._quantization = quantization
        self._has_embeddings = span.start == 0
        self._has_head = span.end == facts.num_blocks
        self._model: Any = empty_model(checkpoint.config, self._dtype)
        self._blocks_path = blocks_path(self._model)
        with returning_memory():
            self._load(checkpoint, on_block)
        self._parts: dict[Span, Any] = {}
        self._kv_bytes_per_token = self._measured_kv_bytes()

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
        return self._kv_bytes_per_token

    def allocate(
        self, span: Span, *, batch: int, max_tokens: int, tuned: Mapping[str, Array] | None = None
    ) -> SpanCache:
        """Return an empty cache for the blocks of `span`, and what to add to them."""
        tuning = self._tuning(span, tuned, batch=batch) if tuned else None
        num_layers = self._facts.num_blocks
        return TorchCache(span, num_layers=num_layers, batch=batch, max_tokens=max_tokens, tuning=tuning)

    def _tuning(
        self, span: Span, tuned: Mapping[str, Array], *, batch: int, is_trained: bool = False
    ) -> TorchTuning:
        return TorchTuning(
            tuned,
            span,
            self._part(span).get_submodule(self._blocks_path),
            hidden_size=self._facts.hidden_size,
            batch=batch,
            is_trained=is_trained,
        )

    @torch.inference_mode()
    def compute(self, steps: Sequence[SpanStep]) -> list[Array | None]:
        """Run `steps` one after another."""
        return [self._compute(step) for step in steps]

    def _compute(self, step: SpanStep) -> Array | None:
        cache = step.cache
        assert isinstance(cache, TorchCache)
        cache.position = step.position
        arguments: dict[str, Any] = {"past_key_values": cache, "use_cache": True}
        hidden = None
        if step.token_ids is not None:
            arguments["input_ids"] = torch.from_numpy(step.token_ids).to(self._device)
        else:
            assert step.hidden is not None
            hidden = arguments["inputs_embeds"] = self._here(step.hidden)
        given = step.token_ids if step.hidden is None else step.hidden
        assert given is not None
        positions = torch.arange(step.position, step.position + given.shape[1], device=self._device)
        arguments["position_ids"] = positions.expand(given.shape[0], -1)
        part = self._part(cache.span)
        with self._between(part, hidden, cache.tuning, position=step.position) as behind:
            if step.output in (Output.LOGITS, Output.ALL_LOGITS):
                arguments["logits_to_keep"] = 1 if step.output is Output.LOGITS else 0
                logits: torch.Tensor = part(**arguments).logits
                return _to_numpy(logits.float())
            result = part.base_model(**arguments)
        if step.output is Output.NONE:
            return None
        return _to_numpy(result.last_hidden_state if step.output is Output.NORMED else behind[0])

    @contextmanager
    def _between(
        self, part: Any, hidden: torch.Tensor | None, tuning: TorchTuning | None, *, position: int
    ) -> Iterator[list[torch.Tensor]]:
        """See `between_blocks`; what a session adds to the first block comes behind the replacement."""
        blocks = part.get_submodule(self._blocks_path)
        added = tuning.applied(position) if tuning else nullcontext()
        with between_blocks(blocks, hidden) as behind, added:
            yield behind

    def backward(
        self, span: Span, hidden: Array, gradient: Array, tuned: Mapping[str, Array] | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Return the gradients with respect to `hidden` and `tuned`; the blocks are computed again for it."""
        tuning = self._tuning(span, tuned or {}, batch=hidden.shape[0], is_trained=True)
        inputs = self._here(hidden).requires_grad_()
        positions = torch.arange(inputs.shape[1], device=self._device).expand(inputs.shape[0], -1)
        part = self._part(span)
        with self._between(part, inputs, tuning, position=0) as behind:
            part.base_model(inputs_embeds=inputs.detach(), position_ids=positions, use_cache=False)
        [result, *of_tuned] = torch.autograd.grad(
            behind[0],
            [inputs, *tuning.tensors.values()],
            self._here(gradient),
            materialize_grads=True,
        )
        return _to_numpy(result), dict(zip(tuning.tensors, map(_to_numpy, of_tuned), strict=True))

    def _measured_kv_bytes(self) -> int:
        """Return the bytes that one token leaves in one block: families keep more, or less, than they say."""
        first = Span(self._span.start, self._span.start + 1)
        cache = self.allocate(first, batch=1, max_tokens=1)
        hidden = np.zeros((1, 1, self._facts.hidden_size), dtype=np.float32)
        self.compute([SpanStep(cache=cache, position=0, hidden=hidden, output=Output.NONE)])
        assert isinstance(cache, TorchCache)
        return cache.num_bytes

    def _part(self, span: Span) -> Any:
        """Return a model of the blocks of `span` alone."""
        if span not in self._parts:
            self._parts[span] = part_of(self._model, self._blocks_path, span.start, len(span))
        return self._parts[span]

    def _load(self, checkpoint: Checkpoint, on_block: Callable[[], None]) -> None:
        """Fill the span's part of the empty model, a few tensors at a time: no second copy of it exists."""
        weights = TorchWeights(self._model)

        def load(names: Sequence[str]) -> None:
            for target, tensor in weights.load(names, lambda name: to_torch(checkpoint.read(name))):
                self._set(target, tensor)

        if self._has_embeddings:
            load(checkpoint.start_names)
        for block_index in self._span:
            mapped = self._map_matrices(checkpoint, weights, block_index)
            load([name for name in checkpoint.block_names(block_index) if name not in mapped])
            self._check_complete(block_index)
            on_block()
        if self._has_head:
            load(checkpoint.end_names)
            self._tie_head(checkpoint)
        self._fill_what_is_replaced()

    def _map_matrices(
        self, checkpoint: Checkpoint, weights: TorchWeights, block_index: int
    ) -> frozenset[str]:
        """Map the quantized matrices of a block from the disk; return the names of their tensors."""
        if not self._quantization.is_cached:
            return frozenset()
        targets = {
            name: target.removesuffix(".weight")
            for name, target in weights.plain_targets(checkpoint.block_names(block_index)).items()
            if target.endswith(".weight")
            and isinstance(self._model.get_submodule(target.removesuffix(".weight")), nn.Linear)
        }
        cache = BlockCache(checkpoint, self._quantization)
        stored = cache.matrices(f"torch-{block_index}", {name: [name] for name in targets}) if targets else {}
        for name, path in targets.items():
            outputs, inputs = checkpoint.entry(name).shape
            self._set_quantized(path, mapped_tensor(stored[name], (outputs, inputs)))
        return frozenset(targets)

    def _set_quantized(self, path: str, weight: QuantizedTensor) -> None:
        """Put a quantized matrix in the place of the linear layer at `path`."""
        linear = self._model.get_submodule(path)
        if weight.shape != (linear.out_features, linear.in_features):
            raise BadCheckpoint(
                f"'{path}.weight' has shape {weight.shape}, {(linear.out_features, linear.in_features)} "
                "expected; fetch the checkpoint again"
            )
        self._replace(path, self._quantized_layer(weight))

    def _replace(self, path: str, layer: QuantizedLinear | Int4Linear | Nf4Linear) -> None:
        """Put `layer` in the place of the linear layer at `path`."""
        layer.bias = self._model.get_submodule(path).bias  # filled by its own tensor, before or after
        parent, _, child = path.rpartition(".")
        setattr(self._model.get_submodule(parent), child, layer)

    def _tie_head(self, checkpoint: Checkpoint) -> None:
        """Load a head that is the embeddings; if both are here and not quantized, they share their memory."""
        if checkpoint.head_name != checkpoint.embed_name:
            return
        head = self._model.get_output_embeddings()
        if self._has_embeddings and self._quantization is QuantFormat.NONE:
            head.weight = self._model.get_input_embeddings().weight
        else:
            [target] = (name for name, module in self._model.named_modules() if module is head)
            self._set(f"{target}.weight", to_torch(checkpoint.read(checkpoint.embed_name)))

    def _fill_what_is_replaced(self) -> None:
        """Give values to what is around the blocks and not ours: `between_blocks` replaces its results."""
        ends = (self._model.get_input_embeddings(), self._model.get_output_embeddings())
        for path, module in self._model.named_modules():
            for name, buffer in list(module.named_buffers(recurse=False)):
                if not buffer.is_meta:
                    setattr(module, name, buffer.to(self._device))
            if module not in ends and not path.startswith(self._blocks_path):
                for name, parameter in list(module.named_parameters(recurse=False)):
                    if parameter.is_meta:
                        zeros = torch.zeros_like(parameter, device=self._device)
                        setattr(module, name, nn.Parameter(zeros, requires_grad=False))

    def _set(self, target: str, tensor: torch.Tensor) -> None:
        """Put a tensor where the model has `target`, quantized if it is a matrix of a block or the head."""
        path, _, attribute = target.rpartition(".")
        module = self._model.get_submodule(path)
        empty = getattr(module, attribute)
        if tensor.shape != empty.shape:
            raise BadCheckpoint(
                f"{target!r} has shape {tuple(tensor.shape)}, {tuple(empty.shape)} expected; "
                "fetch the checkpoint again"
            )
        is_head = module is self._model.get_output_embeddings()
        # The head keeps 8 bits: it decides between tokens that differ little.
        quantization = QuantFormat.INT8 if is_head else self._quantization
        is_quantized = self._quantization is not QuantFormat.NONE
        is_matrix = isinstance(module, nn.Linear) and attribute == "weight"
        if quantization is QuantFormat.NF4 and is_matrix:
            self._replace(path, Nf4Linear(tensor.to(self._dtype), None, self._device))
        elif is_quantized and is_matrix:
            self._set_quantized(path, quantize(_to_numpy(tensor), quantization))
        elif is_quantized and tensor.ndim == 3 and getattr(module, "is_transposed", None) is False:
            # bitsandbytes has layers only: experts are in groups.
            in_groups = quantization if quantization.is_cached else QuantFormat.INT4
            rows = quantize(_to_numpy(tensor.flatten(0, 1)), in_groups)
            delattr(module, attribute)
            experts = QuantizedExperts(rows, num_experts=len(tensor))
            setattr(module, attribute, experts.to(self._device))
        elif isinstance(empty, nn.Parameter):
            setattr(module, attribute, nn.Parameter(self._placed(tensor, empty), requires_grad=False))
        else:
            setattr(module, attribute, self._placed(tensor, empty))

    def _quantized_layer(self, weight: QuantizedTensor) -> QuantizedLinear | Int4Linear:
        if has_kernel(weight, self._device):
            return Int4Linear(weight, None, self._device)
        return QuantizedLinear(weight, None).to(self._device)

    def _placed(self, tensor: torch.Tensor, empty: torch.Tensor) -> torch.Tensor:
        return tensor.to(device=self._device, dtype=empty.dtype)

    def _here(self, array: Array) -> torch.Tensor:
        """Return hidden states, or gradients, on the device that computes them."""
        return to_torch(array).to(device=self._device, dtype=self._dtype)

    def _check_complete(self, block_index: int) -> None:
        block = self._model.get_submodule(f"{self._blocks_path}.{block_index}")
        missing = [name for name, parameter in block.named_parameters() if parameter.is_meta]
        if missing:
            raise BadCheckpoint(f"block {block_index} lacks {missing[0]!r}; fetch the checkpoint again")


def to_torch(array: Array) -> torch.Tensor:
    """Return a tensor that shares memory with `array`; torch and numpy spell bfloat16 differently."""
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _to_numpy(tensor: torch.Tensor) -> Array:
    if tensor.dtype is torch.bfloat16:
        return tensor.cpu().contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.cpu().contiguous().numpy()
