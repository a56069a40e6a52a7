"""Steps that wait for the executor, and whose turn it is. Pure.

Turns alternate: one decode step of every lease that has one, together; then one chunk of one prompt, of
another lease each time. So nobody waits for more than one chunk of the prompts of others, and prompts go on
however many others decode.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from gridnode.core.draft_length import MAX_DRAFT_TOKENS
from gridnode.engine.executor import Array
from gridnode.engine.requests import StepRequest

# Up to this many tokens a step counts as decoding: the new token, and its draft tokens.
MAX_DECODE_TOKENS = 1 + MAX_DRAFT_TOKENS


@dataclass(slots=True, eq=False)
class StepRun:
    """One step on its way through the executor, chunk by chunk."""

    request: StepRequest
    body: bytes | bytearray | memoryview
    values: Array | None = None
    """Token ids or hidden states, once they were checked."""

    done_tokens: int = 0
    results: list[Array] = field(default_factory=list)
    compute_s: float = 0.0

    @property
    def num_tokens(self) -> int:
        """Tokens of each row."""
        shape = self.request.tensor.shape
        return shape[1] if len(shape) > 1 else 0

    @property
    def is_done(self) -> bool:
        """Whether every chunk was computed."""
        return self.values is not None and self.done_tokens == self.num_tokens


class StepQueue:
    """The steps of each lease in the order in which they came."""

    def __init__(self) -> None:
        self._runs: dict[int, deque[StepRun]] = {}
        """By lease; leases in the order of their turns."""

        self._is_turn_of_prompts = False

    def __bool__(self) -> bool:
        return bool(self._runs)

    def add(self, run: StepRun) -> None:
        """Let `run` wait behind the other steps of its lease."""
        self._runs.setdefault(run.request.lease, deque()).append(run)

    def next_turn(self) -> list[StepRun]:
        """Return the steps of which a chunk is to be computed now; empty if none waits."""
        first = [runs[0] for runs in self._runs.values()]
        decoding = [run for run in first if run.num_tokens <= MAX_DECODE_TOKENS]
        prompts = [run for run in first if run.num_tokens > MAX_DECODE_TOKENS]
        if prompts and (self._is_turn_of_prompts or not decoding):
            self._is_turn_of_prompts = False
            lease = prompts[0].request.lease
            self._runs[lease] = self._runs.pop(lease)  # behind all others
            return prompts[:1]
        self._is_turn_of_prompts = True
        return decoding

    def remove(self, run: StepRun) -> None:
        """Forget a step that ended."""
        runs = self._runs[run.request.lease]
        runs.remove(run)
        if not runs:
            del self._runs[run.request.lease]

    def find(self, number: int) -> StepRun | None:
        """Return the step of the request with `number`, if it still waits."""
        return next(
            (run for runs in self._runs.values() for run in runs if run.request.number == number), None
        )

    def drop_lease(self, lease: int) -> list[StepRun]:
        """Forget the steps of a lease and return them."""
        return list(self._runs.pop(lease, ()))
