"""Trainable vectors before the text, and before every block, that their owner keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from gridnode.engine.tuned_tensors import PROMPTS
from gridnode.errors import BadCheckpoint, BadInput

_FILE = "prompts.safetensors"


class PromptTuning(nn.Module):
    """`num_tokens` vectors that stand before every text, and if `deep` others before every block.

    Adding one to a model is enough: what comes out of the model has the shape of what went in. The vectors
    of the blocks are added to what is at those positions, by the nodes, for each session or gradient.

    Args:
        model: A model of `AutoDistributedModel...`.
    """

    def __init__(self, model: Any, *, num_tokens: int, deep: bool = False) -> None:
        super().__init__()
        if num_tokens < 1:
            raise BadInput(f"at least one vector is needed, got {num_tokens}")
        self._blocks = [model.blocks]  # in a list: it is no part of this module
        words = model.get_input_embeddings().weight.detach()
        like = words[torch.randint(len(words), (num_tokens,))]
        self.prompts = nn.Parameter(like.clone().float())
        """`[num_tokens, hidden_size]`; they begin as words."""

        self.deep = nn.Parameter(torch.zeros(len(model.blocks), num_tokens, like.shape[1])) if deep else None
        """`[blocks, num_tokens, hidden_size]`; they begin as nothing."""

        self._starts: torch.Tensor | None = None
        """Where the vectors stand in each row of the call that runs now; None if they do not."""

        self._hooks = [
            # Before the model looks at its inputs, and behind everything that it makes of them.
            model.base_model.register_forward_pre_hook(self._begin, with_kwargs=True, prepend=True),
            model.base_model.register_forward_hook(self._end),
        ]
        model.blocks.tunings.append(self)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return what is added to the blocks."""
        if self.deep is None:
            return {}
        return {f"{i}.{PROMPTS}": prompts for i, prompts in enumerate(self.deep)}

    def remove(self) -> None:
        """Leave the model as it was. Safe to call more than once."""
        [blocks] = self._blocks
        for hook in self._hooks:
            hook.remove()
        if self in blocks.tunings:
            blocks.tunings.remove(self)

    def save(self, directory: str | Path) -> None:
        """Write the vectors into `directory`."""
        Path(directory).mkdir(parents=True, exist_ok=True)
        save_file({name: value.detach() for name, value in self.state_dict().items()}, Path(directory, _FILE))

    @classmethod
    def load(cls, model: Any, directory: str | Path) -> PromptTuning:
        """Return what `save` wrote.

        Raises:
            BadCheckpoint: there is nothing, or it is for another model.
        """
        try:
            stored = load_file(Path(directory, _FILE))
            tuning = cls(model, num_tokens=len(stored["prompts"]), deep="deep" in stored)
        except (OSError, KeyError) as exc:
            raise BadCheckpoint(f"{directory} has no prompts that can be read: {exc}") from exc
        try:
            tuning.load_state_dict(stored)
        except RuntimeError as exc:
            tuning.remove()
            raise BadCheckpoint(f"the prompts in {directory} are for another model: {exc}") from exc
        return tuning

    def _begin(self, module: Any, args: tuple[Any, ...], values: dict[str, Any]) -> Any:
        """Put the vectors before the text, unless the cache has them already."""
        cache = values.get("past_key_values")
        self._starts = None
        if cache is not None and cache.get_seq_length():
            return args, values
        ids = args[0] if args else values.get("input_ids")
        given = values.get("inputs_embeds")
        embedded = module.get_input_embeddings()(ids) if given is None else given
        mask = values.get("attention_mask")
        if mask is None:
            mask = torch.ones(embedded.shape[:2], dtype=torch.long, device=embedded.device)
        # Padding before a text stays before the vectors: they belong to the text.
        self._starts = (mask.cumsum(1) == 0).sum(1)
        ones = mask.new_ones(len(self.prompts))
        prompts = self.prompts.to(embedded.dtype)
        rows = list(zip(self._starts.tolist(), embedded, mask, strict=True))
        wider = {
            "inputs_embeds": torch.stack([torch.cat([row[:k], prompts, row[k:]]) for k, row, _ in rows]),
            "attention_mask": torch.stack([torch.cat([row[:k], ones, row[k:]]) for k, _, row in rows]),
            "input_ids": None,
            "position_ids": None,
        }
        return (), {**values, **wider}

    def _end(self, module: Any, args: tuple[Any, ...], output: Any) -> None:
        """Take the vectors' own results out again."""
        if self._starts is None:
            return
        output.last_hidden_state = self._without(output.last_hidden_state)
        if output.get("hidden_states"):
            output.hidden_states = tuple(map(self._without, output.hidden_states))

    def _without(self, states: torch.Tensor) -> torch.Tensor:
        assert self._starts is not None
        n = len(self.prompts)
        return torch.stack(
            [torch.cat([row[:k], row[k + n :]]) for k, row in zip(self._starts.tolist(), states, strict=True)]
        )
