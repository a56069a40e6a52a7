"""Choosing the next token from logits, the same way wherever it runs.

The random numbers of a choice are a function of the seed and the position alone, so that the client,
the last hop or its replacement after a failover choose the same token. The order of the filters
(repetition penalty, temperature, top-k, top-p) is that of `transformers`' logits processors.

Every token has a random number of its own, and they run a race (the "Gumbel-max trick"): one is chosen with
its probability, and two models with similar probabilities mostly choose the same one, because they share
the numbers. A draft model builds on that (arXiv:2408.07978), and so does an answer that goes on elsewhere:
noise in the last bits of the logits changes a choice only where two tokens run head to head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]

# The last tokens that a repetition penalty looks at.
PENALTY_WINDOW_TOKENS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How to choose a token. The default takes the most probable one."""

    temperature: float = 0.0
    """0 is greedy; 1 samples from the model's own distribution."""

    top_k: int = 0
    """Keep the k most probable tokens; 0 keeps all."""

    top_p: float = 1.0
    """Keep the fewest tokens whose probabilities reach p together (nucleus sampling)."""

    repetition_penalty: float = 1.0
    """Divide the positive logits of tokens seen before by this, multiply the negative ones (CTRL)."""

    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature <= 100.0:
            raise ValueError(f"temperature must be in 0..100, got {self.temperature:g}")
        if not 0 <= self.top_k < 2**31:
            raise ValueError(f"top_k must be in 0..2^31-1, got {self.top_k}")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p:g}")
        if not 0.01 <= self.repetition_penalty <= 100.0:
            raise ValueError(f"repetition_penalty must be in 0.01..100, got {self.repetition_penalty:g}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be in 0..2^63-1, got {self.seed}")

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return self.temperature == 0.0

    @property
    def needs_history(self) -> bool:
        """Whether the choice depends on the tokens before."""
        return self.repetition_penalty != 1.0


GREEDY = SamplingParams()
"""Always the most probable token."""


def exponentials(seed: int, position: int, count: int) -> FloatArray:
    """Return the random numbers of the first `count` tokens at `position`: exponentially distributed, mean 1.

    From the 53 upper bits of Philox4x64-10 (Salmon et al., 2011): its stream is the same in every version
    of numpy, other than those of `numpy.random.Generator`.
    """
    bits = np.random.Philox(key=np.array([seed, position], dtype=np.uint64)).random_raw(count)
    # Never 0 and never 1. Processors convert signed integers faster.
    uniform = ((bits >> np.uint64(11)).view(np.int64) + 0.5) * 2.0**-53
    numbers: FloatArray = -np.log(uniform)
    return numbers


def _penalize(scores: FloatArray, history: Sequence[int], penalty: float) -> FloatArray:
    seen = np.unique(np.asarray(history, dtype=np.int64))
    values = scores[seen]
    scores[seen] = np.where(values > 0, values / penalty, values * penalty)
    return scores


def probabilities(logits: FloatArray, params: SamplingParams) -> FloatArray:
    """Return what `sample` draws from: `[vocab_size]`, float64, for a temperature above 0."""
    scores = logits.astype(np.float64) / params.temperature
    if 0 < params.top_k < scores.size:
        kth = np.partition(scores, -params.top_k)[-params.top_k]
        scores = np.where(scores < kth, -np.inf, scores)
    weights: FloatArray = np.exp(scores - scores.max())
    weights /= weights.sum()
    if params.top_p < 1.0:
        # Those below this have less than 1 - p together, so that none is kept, and sorting is quick.
        weights[weights < (1.0 - params.top_p) / weights.size] = 0.0
        left = np.flatnonzero(weights)
        order = left[np.argsort(-weights[left], kind="stable")]
        before = np.cumsum(weights[order]) - weights[order]
        weights[order[before >= params.top_p]] = 0.0
        weights /= weights.sum()
    return weights


def sample(logits: FloatArray, params: SamplingParams, *, position: int, history: Sequence[int] = ()) -> int:
    """Return the token id chosen from `logits` (`[vocab_size]`).

    Args:
        position: Position that the new token will have in its session.
        history: Token ids before it; used only if `params.needs_history`, and of them the last
            `PENALTY_WINDOW_TOKENS`.
    """
    scores = logits
    if params.needs_history and len(history):
        window = history[-PENALTY_WINDOW_TOKENS:]
        scores = _penalize(logits.astype(np.float64), window, params.repetition_penalty)
    if params.is_greedy:
        return int(np.argmax(scores))
    weights = probabilities(scores, params)
    with np.errstate(divide="ignore"):  # a token of no weight takes forever
        times = exponentials(params.seed, position, weights.size) / weights
    return int(np.argmin(times))
