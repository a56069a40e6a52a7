"""How long a request waits in line, if it does not say so."""

from __future__ import annotations

from gridnode.control.dialect import MAX_WAIT_S, names
from gridnode.control.schema import NodeStatus


def patience_s(status: NodeStatus, model: str, wanted_s: float | None) -> float:
    """Return how long to wait for room.

    A full swarm has room again when an answer ends. Blocks that nobody serves need somebody to come:
    that is told at once, while the status of the HTTP answer can still say so.
    """
    if wanted_s is not None:
        return wanted_s
    has_gaps = any(found.gaps for found in status.models if names(found, model))
    return 0.0 if has_gaps else MAX_WAIT_S
