"""How well the blocks of a model are served, and what a new node should serve. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median
from typing import Literal

from gridnode.commands import up_command
from gridnode.control.status_schema import ModelStatus, PeerStatus, ServingStatus
from gridnode.core.placement import weakest_span
from gridnode.core.spans import Span, coverage

# Twice the deepest model known. Finer marks are a grey area, and strangers say how deep their models are.
MAX_MARKS = 256

Health = Literal["healthy", "thin", "broken"]


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive blocks that equally many nodes serve."""

    start: int
    end: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How many nodes serve each block of a model."""

    counts: tuple[int, ...]
    """Online nodes, by block."""

    coming: tuple[int, ...]
    """Nodes that are loading it, by block."""

    @property
    def runs(self) -> list[Run]:
        """The blocks, put together where equally many nodes serve them."""
        found, start = [], 0
        for count, equal in groupby(self.counts):
            end = start + len(list(equal))
            found.append(Run(start, end, count))
            start = end
        return found

    @property
    def least(self) -> int:
        """Nodes of the least served block."""
        return min(self.counts, default=0)

    @property
    def mean(self) -> float:
        """Nodes per block."""
        return sum(self.counts) / max(1, len(self.counts))

    @property
    def health(self) -> Health:
        """`broken` with a gap; `thin` if the loss of one node may make one."""
        return "broken" if self.least == 0 else "thin" if self.least == 1 else "healthy"


Servings = Sequence[tuple[PeerStatus, ServingStatus]]
"""The peers that serve one model, or will, by their first blocks."""


def servings(peers: Iterable[PeerStatus]) -> Mapping[str, Servings]:
    """Return who serves what, by manifest hash: all models at once, because strangers may announce many."""
    found = [(peer, peer.serving) for peer in peers if peer.serving]
    grouped: defaultdict[str, list[tuple[PeerStatus, ServingStatus]]] = defaultdict(list)
    for peer, serving in sorted(found, key=lambda item: (item[1].start, item[1].end, item[0].short)):
        grouped[serving.manifest].append((peer, serving))
    return grouped


def _spans(serving: Servings, *states: str) -> list[Span]:
    return [Span(s.start, s.end) for peer, s in serving if peer.state in states and s.start < s.end]


def mark_step(num_blocks: int) -> int:
    """Return how many blocks each mark of a ruler stands for: one, up to `MAX_MARKS` blocks."""
    return max(1, math.ceil(num_blocks / MAX_MARKS))


def cover(model: ModelStatus, serving: Servings) -> Coverage:
    """Return the coverage of `model` by those of `servings` that have it."""
    return Coverage(
        counts=tuple(coverage(_spans(serving, "online"), model.num_blocks)),
        coming=tuple(coverage(_spans(serving, "joining"), model.num_blocks)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What a new node should serve."""

    span: Span
    text: str
    """Why, for people."""

    command: str
    """What to run there."""


def advice(model: ModelStatus, serving: Servings, *, join: str) -> Advice:
    """Return what a new node of usual size should serve: the weakest blocks, as the nodes themselves choose.

    Args:
        join: Address that a new node should join.
    """
    taken = _spans(serving, "online", "joining")
    usual = int(median(len(span) for span in taken)) if taken else model.num_blocks
    gap = next((Span(*gap) for gap in model.gaps), None)
    # Somebody who loads the blocks of a gap fills it soon.
    is_open = gap is not None and not any(gap in span for span in _spans(serving, "joining"))
    span = gap if is_open and gap is not None else weakest_span(taken, model.num_blocks, usual)
    least = min(coverage(taken, model.num_blocks)[span.start : span.end])
    if is_open:
        text = f"blocks {span} are served by nobody: {model.name} does not answer until somebody does"
    elif least == 1:
        text = f"in blocks {span}, some have one node only: if it goes, {model.name} stops"
    else:
        text = f"blocks {span} are the weakest, with {least} nodes at least; help there makes answers faster"
    return Advice(span=span, text=text, command=up_command(model.name, blocks=str(span), join=join))
