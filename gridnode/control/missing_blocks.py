"""Which blocks of a model a person could help out with. Pure."""

from __future__ import annotations

from gridnode.control.status_schema import ModelStatus, NodeStatus
from gridnode.core.spans import Span, gaps


def missing_blocks(model: ModelStatus, status: NodeStatus) -> tuple[Span, ...]:
    """Return the blocks of `model` that nobody serves and nobody is about to serve."""
    served = [
        Span(peer.serving.start, peer.serving.end)
        for peer in status.peers
        if peer.serving and peer.serving.manifest == model.manifest and peer.state in ("joining", "online")
    ]
    return gaps(served, model.num_blocks)
