"""Guessing how a text goes on from what it said before (prompt lookup): no model, little memory. Pure.

Answers that quote, summarize or edit their prompt, code and lists repeat what is there already. The idea is
Apoorv Saxena's prompt lookup decoding (2023).
"""

from __future__ import annotations

from collections.abc import Sequence

# Longer matches are tried first. Shorter ones than the shortest are chance.
LONGEST_TOKENS = 4
SHORTEST_TOKENS = 2


class NgramIndex:
    """Where each few tokens of a growing text stood last."""

    def __init__(self) -> None:
        self._num_indexed = 0
        self._ends: dict[tuple[int, ...], int] = {}
        """By n-gram: the position behind its last place that something followed."""

    def propose(self, token_ids: Sequence[int], count: int) -> tuple[int, ...]:
        """Return up to `count` tokens that followed the end of `token_ids` when it stood there before.

        Each call brings the tokens of the one before, and more.
        """
        self._index(token_ids)
        for length in range(min(LONGEST_TOKENS, len(token_ids) - 1), SHORTEST_TOKENS - 1, -1):
            start = self._ends.get(tuple(token_ids[-length:]))
            if start is not None:
                return self._continuation(token_ids, start, count)
        return ()

    def _continuation(self, token_ids: Sequence[int], start: int, count: int) -> tuple[int, ...]:
        """Return what follows `start`; where that reaches the end of the text, the text goes in circles."""
        period = len(token_ids) - start
        return tuple(token_ids[start + i % period] for i in range(count))

    def _index(self, token_ids: Sequence[int]) -> None:
        """Enter what ends before the last token: it has something behind it."""
        for end in range(max(self._num_indexed, SHORTEST_TOKENS), len(token_ids)):
            for length in range(SHORTEST_TOKENS, min(LONGEST_TOKENS, end) + 1):
                self._ends[tuple(token_ids[end - length : end])] = end
        self._num_indexed = max(self._num_indexed, len(token_ids))
