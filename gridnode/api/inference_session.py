"""A cache of `transformers` whose keys and values are in the swarm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import DynamicCache

from gridnode.errors import BadInput


class InferenceSession(DynamicCache):
    """What the blocks remember of one batch: give it to calls as `past_key_values`, or call `step`.

    Made by `inference_session` of a model or of some blocks. At the end of its `with` the leases are freed;
    what was sent is kept here, so that the session can be gone on with later (`resume=`).

    Args:
        blocks: Runs hidden states through the blocks.
        twin: Returns a session on forks of the rows of another; it remembers no positions yet.
    """

    def __init__(
        self,
        blocks: Callable[..., torch.Tensor],
        twin: Callable[[InferenceSession], InferenceSession],
    ) -> None:
        super().__init__()
        self._blocks = blocks
        self._twin = twin

    @property
    def position(self) -> int:
        """Tokens that it holds; setting a lower one forgets those behind."""
        return int(self.get_seq_length())

    @position.setter
    def position(self, position: int) -> None:
        if not 0 <= position <= self.position:
            raise BadInput(f"cannot go to position {position}: the session has {self.position} tokens")
        if position < self.position:
            self.crop(position - self.position)  # a negative number removes so many

    def step(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return the hidden states behind the blocks for new tokens, `[batch, tokens, hidden_size]`.

        Raises:
            ContextFull: the session is as long as it may be.
            GridError: the swarm cannot compute it.
        """
        with torch.no_grad():
            return self._blocks(hidden_states, past_key_values=self)

    def fork(self) -> InferenceSession:
        """Return a session that goes on from the same tokens, and grows apart from this one.

        Its caches fill when it is used: what this one sent is sent again.
        """
        twin = self._twin(self)
        if self.position:
            layer: Any = self.layers[0]
            twin.update(layer.keys.clone(), layer.keys.clone(), 0)
        return twin
