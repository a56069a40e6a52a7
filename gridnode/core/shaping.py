"""Bending logits before a token is chosen from them, and telling how probable tokens were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gridnode.core.sampling import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitShaping:
    """What to add to the logits of some tokens, as the OpenAI API defines it."""

    presence_penalty: float = 0.0
    """Subtracted from the logits of tokens that the answer already has."""

    frequency_penalty: float = 0.0
    """Subtracted once for each time that the answer has the token."""

    bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of these tokens."""

    @property
    def is_neutral(self) -> bool:
        """Whether nothing is changed."""
        return not (self.presence_penalty or self.frequency_penalty or self.bias)

    def apply(
        self, logits: FloatArray, counts: Mapping[int, int], allowed: npt.NDArray[np.bool_] | None = None
    ) -> FloatArray:
        """Return the shaped logits, `[vocab_size]`; `logits` stay as they are.

        Args:
            counts: How often the answer has each token.
            allowed: `[vocab_size]`; the other tokens get minus infinity.
        """
        shaped = logits.astype(np.float64)
        if self.presence_penalty or self.frequency_penalty:
            for token_id, count in counts.items():
                shaped[token_id] -= self.presence_penalty + self.frequency_penalty * count
        for token_id, value in self.bias.items():
            if token_id < shaped.size:
                shaped[token_id] += value
        if allowed is not None:
            shaped[~allowed] = -np.inf
        return shaped


def log_probabilities(logits: FloatArray) -> FloatArray:
    """Return the natural logarithms of the softmax of `logits`, `[vocab_size]`, float64."""
    scores = logits.astype(np.float64)
    scores -= scores.max()
    result: FloatArray = scores - np.log(np.exp(scores).sum())
    return result


def most_probable(logprobs: FloatArray, count: int) -> list[int]:
    """Return the ids of the `count` most probable tokens, the most probable first."""
    if count == 0:
        return []
    found = np.argpartition(logprobs, -min(count, logprobs.size))[-count:]
    return [int(token_id) for token_id in found[np.argsort(-logprobs[found], kind="stable")]]
