"""How long the chunks of a prompt are. Pure."""

from __future__ import annotations

import math

MAX_CHUNK_TOKENS = 256
_MIN_CHUNK_TOKENS = 32
# What a step costs beside its tokens, in tokens: framing, links, a turn of the worker, starts of kernels.
_STEP_TOKENS = 16
# Kernels take rows in small tiles.
_MULTIPLE_TOKENS = 16


def suitable_chunk_tokens(num_tokens: int, num_hops: int) -> int:
    """Return the length of the chunks in which a prompt comes through `num_hops` hops soonest.

    Chunks follow each other, so that all hops compute at once: n / c chunks leave the last hop, one after the
    other, h - 1 chunk times after the first hop has begun. Short chunks fill the hops sooner, and each costs
    something by itself. (n / c + h - 1) * (c + o) is least at c = sqrt(n * o / (h - 1)).
    """
    if num_hops < 2:
        return MAX_CHUNK_TOKENS
    best = math.sqrt(num_tokens * _STEP_TOKENS / (num_hops - 1))
    rounded = math.ceil(best / _MULTIPLE_TOKENS) * _MULTIPLE_TOKENS
    return min(max(rounded, _MIN_CHUNK_TOKENS), MAX_CHUNK_TOKENS)
