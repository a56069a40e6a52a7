"""Spans: consecutive blocks of a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

# The deepest model known has 126 blocks (Llama 3.1 405B); a peer may not make us loop over more.
MAX_BLOCKS = 4096


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Consecutive blocks of one model: `start` is included, `end` is not."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= MAX_BLOCKS:
            raise ValueError(f"not a span of blocks: {self.start}:{self.end}")

    def __len__(self) -> int:
        return self.end - self.start

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.end))

    def __contains__(self, other: object) -> bool:
        """Return whether a block index, or every block of a span, lies in this span."""
        if isinstance(other, Span):
            return self.start <= other.start and other.end <= self.end
        return isinstance(other, int) and self.start <= other < self.end

    def __str__(self) -> str:
        return f"{self.start}:{self.end}"


def parse_span(text: str) -> Span:
    """Return the span that `"0:10"` names.

    Raises:
        ValueError: `text` is not two numbers, or they are not a span.
    """
    match = re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", text)
    if match is None:
        raise ValueError(f"{text!r} is not a span of blocks; write it like 0:10 (10 is not included)")
    return Span(int(match[1]), int(match[2]))


def coverage(spans: Iterable[Span], num_blocks: int) -> list[int]:
    """Return for each block how many of `spans` contain it."""
    # How much the count changes at each block: strangers may announce thousands of long spans.
    changes = [0] * (num_blocks + 1)
    for span in spans:
        changes[min(span.start, num_blocks)] += 1
        changes[min(span.end, num_blocks)] -= 1
    return list(accumulate(changes[:num_blocks]))


def gaps(spans: Iterable[Span], num_blocks: int) -> tuple[Span, ...]:
    """Return the maximal spans of `[0, num_blocks)` that none of `spans` touches."""
    counts = coverage(spans, num_blocks)
    found: list[Span] = []
    start: int | None = None
    for block_index, count in enumerate([*counts, 1]):
        if count == 0 and start is None:
            start = block_index
        elif count and start is not None:
            found.append(Span(start, block_index))
            start = None
    return tuple(found)
