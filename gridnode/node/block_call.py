"""Which blocks hidden states go through, where, and with what added to them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gridnode.core.ids import ModelId
from gridnode.core.route_wishes import ANYWHERE, RouteWishes
from gridnode.core.routing import Aim
from gridnode.core.spans import Span
from gridnode.engine.tuned_tensors import NOTHING_ADDED, Added


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCall:
    """What does not change between the steps of a session over hidden states, or within a gradient."""

    model: ModelId
    num_blocks: int
    """Blocks of the whole model."""

    part: Span
    batch: int = 1
    """Rows that go through together."""

    wishes: RouteWishes = ANYWHERE
    aim: Aim = Aim.LATENCY
    added: Added = NOTHING_ADDED

    def of(self, part: Span) -> BlockCall:
        """Return the same for other blocks."""
        return replace(self, part=part)
