"""What the node here did in the last minutes, as far as it was watched. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from gridnode.control.status_schema import NodeStatus

# More than the widest terminal has cells, at one sample a second.
MAX_SAMPLES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One moment."""

    answer_tokens_per_s: float
    prompt_tokens_per_s: float
    leased_tokens: int
    """KV cache that is in use."""

    open_sessions: int


class NodeHistory:
    """Samples, oldest first."""

    def __init__(self) -> None:
        self.samples: deque[Sample] = deque(maxlen=MAX_SAMPLES)
        self._before: tuple[NodeStatus, float] | None = None

    def note(self, status: NodeStatus, now: float) -> None:
        """Add what changed since the last status; a node that restarted begins anew."""
        before, then = self._before or (status, now)
        is_same = before.pid == status.pid and before.uptime_s <= status.uptime_s
        elapsed_s = now - then if is_same else 0.0
        answers = status.computed_answer_tokens - before.computed_answer_tokens
        prompts = status.computed_prompt_tokens - before.computed_prompt_tokens
        self.samples.append(
            Sample(
                answer_tokens_per_s=answers / elapsed_s if elapsed_s > 0 else 0.0,
                prompt_tokens_per_s=prompts / elapsed_s if elapsed_s > 0 else 0.0,
                leased_tokens=leased_tokens(status),
                open_sessions=status.open_sessions,
            )
        )
        self._before = (status, now)


def leased_tokens(status: NodeStatus) -> int:
    """Return how much of the KV cache of the node here is in use."""
    serving = next((peer.serving for peer in status.peers if peer.is_self), None)
    return max(0, status.total_cache_tokens - serving.free_cache_tokens) if serving else 0
