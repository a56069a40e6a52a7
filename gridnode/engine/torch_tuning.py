"""Prompts and LoRA matrices of one session, added to frozen blocks while its steps are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from gridnode.core.spans import Span
from gridnode.engine.executor import Array
from gridnode.engine.tuned_tensors import LORA_A, LORA_B, PROMPTS, TunedTensors, block_of_tuned
from gridnode.errors import BadInput


class TorchTuning:
    """What one session adds to the blocks of `span`.

    Args:
        blocks: The modules of the span.
        batch: Rows of the session.
        is_trained: Whether gradients of the tensors are wanted.

    Raises:
        BadInput: a tensor does not fit its block.
    """

    def __init__(
        self,
        tensors: TunedTensors,
        span: Span,
        blocks: Sequence[nn.Module],
        *,
        hidden_size: int,
        batch: int,
        is_trained: bool = False,
    ) -> None:
        self._blocks = blocks
        self.tensors: dict[str, torch.Tensor] = {}
        self._prompts: dict[int, torch.Tensor] = {}
        self._lora: list[tuple[nn.Module, torch.Tensor, torch.Tensor]] = []
        for name, array in tensors.items():
            if not span.start <= block_of_tuned(name) < span.end:
                raise BadInput(f"{name!r} is added to a block outside {span}")
            self.tensors[name] = _tensor(array, is_trained)
        for name, tensor in self.tensors.items():
            number, _, path = name.partition(".")
            index = int(number) - span.start
            if path == PROMPTS:
                self._prompts[index] = _checked_prompts(name, tensor, hidden_size, batch)
            elif path.endswith(f".{LORA_A}"):
                self._lora.append(self._adapted(name, tensor, blocks[index], path))
            elif name.removesuffix(LORA_B) + LORA_A not in self.tensors:
                raise BadInput(f"{name!r} is neither prompts nor half of a LoRA matrix")

    @contextmanager
    def applied(self, position: int) -> Iterator[None]:
        """Add everything while this lasts, to steps that begin at `position`."""
        with ExitStack() as stack:
            for index, prompts in self._prompts.items():
                hook = _adding_prompts(prompts, position)
                _until_exit(stack, self._blocks[index].register_forward_pre_hook(hook, with_kwargs=True))
            for module, a, b in self._lora:
                _until_exit(stack, module.register_forward_hook(_adding_lora(a, b)))
            yield

    def _adapted(
        self, name: str, a: torch.Tensor, block: nn.Module, path: str
    ) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
        b = self.tensors.get(name.removesuffix(LORA_A) + LORA_B)
        if b is None:
            raise BadInput(f"{name!r} came without its {LORA_B}")
        try:
            module = block.get_submodule(path.removesuffix(f".{LORA_A}"))
        except AttributeError:
            module = None
        widths = getattr(module, "in_features", None), getattr(module, "out_features", None)
        if module is None or None in widths:
            raise BadInput(f"{name!r} adapts no linear layer of this model")
        if a.ndim != 2 or b.ndim != 2 or (a.shape[1], b.shape[0]) != widths or a.shape[0] != b.shape[1]:
            raise BadInput(
                f"{name!r} and its {LORA_B} are {tuple(a.shape)} and {tuple(b.shape)}; a layer from "
                f"{widths[0]} to {widths[1]} features takes (rank, {widths[0]}) and ({widths[1]}, rank)"
            )
        return module, a, b


def _tensor(array: Array, is_trained: bool) -> torch.Tensor:
    return torch.from_numpy(array).requires_grad_(is_trained)


def _checked_prompts(name: str, prompts: torch.Tensor, hidden_size: int, batch: int) -> torch.Tensor:
    fits = prompts.ndim in (2, 3) and prompts.shape[-1] == hidden_size
    if not fits or (prompts.ndim == 3 and prompts.shape[0] != batch):
        raise BadInput(
            f"{name!r} is {tuple(prompts.shape)}; (positions, {hidden_size}) or "
            f"({batch}, positions, {hidden_size}) expected"
        )
    return prompts


def _until_exit(stack: ExitStack, handle: RemovableHandle) -> None:
    stack.callback(handle.remove)


def _adding_prompts(prompts: torch.Tensor, position: int) -> Callable[..., tuple[Any, Any]]:
    def add(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
        hidden = args[0] if args else named["hidden_states"]
        some = prompts[..., position : position + hidden.shape[1], :].to(hidden)
        changed = hidden
        if some.shape[-2]:
            beyond = (0, 0, 0, hidden.shape[1] - some.shape[-2])
            changed = hidden + functional.pad(some, beyond)
        return ((changed, *args[1:]), named) if args else (args, {**named, "hidden_states": changed})

    return add


def _adding_lora(a: torch.Tensor, b: torch.Tensor) -> Callable[..., torch.Tensor]:
    def add(_: nn.Module, args: tuple[Any, ...], result: torch.Tensor) -> torch.Tensor:
        [given, *_rest] = args
        low = functional.linear(given, a.to(given))
        return result + functional.linear(low, b.to(given))

    return add
