"""A model of the swarm as this process reaches it."""

from __future__ import annotations

from dataclasses import dataclass, field

from gridnode.api.client_node import ClientNode
from gridnode.core.ids import ModelId
from gridnode.core.route_wishes import ANYWHERE, RouteWishes
from gridnode.core.routing import Aim
from gridnode.core.spans import Span
from gridnode.engine.tuned_tensors import NOTHING_ADDED, Added
from gridnode.node.block_call import BlockCall
from gridnode.node.hidden_session import HiddenSession


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteModel:
    """A model of the swarm, and the way to it."""

    client: ClientNode
    model: ModelId
    num_blocks: int
    hidden_size: int
    blocks_path: str
    """Where the whole model of `transformers` has its blocks: `model.layers`, `transformer.h`."""

    linear_layers: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Features in and out of the linear layers of each block, by their path in it."""

    def call(
        self,
        part: Span,
        *,
        batch: int = 1,
        wishes: RouteWishes = ANYWHERE,
        aim: Aim = Aim.LATENCY,
        added: Added = NOTHING_ADDED,
    ) -> BlockCall:
        """Return what sessions and gradients through the blocks `part` are asked for with."""
        return BlockCall(
            model=self.model,
            num_blocks=self.num_blocks,
            part=part,
            batch=batch,
            wishes=wishes,
            aim=aim,
            added=added,
        )

    def session(self, call: BlockCall, *, max_tokens: int | None = None) -> HiddenSession:
        """Return a session; see `HiddenSession`."""
        return HiddenSession(self.client.node.models, call, max_tokens=max_tokens)
