"""Steps that wait for the executor, and whose turn it is. Pure.

Turns alternate: one decode step of every lease that has one, together; then one chunk of one prompt, of
another lease each time. So nobody waits for more than one chunk of the prompts of others, and prompts go on
however many others decode. While others decode, chunks are short.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gridnode.core.draft_length import MAX_DRAFT_TOKENS
from gridnode.engine.executor import Array
from gridnode.engine.requests import StepRequest
from gridnode.errors import BadInput

DEFAULT_CHUNK_TOKENS = 256
# Up to this many tokens a step counts as decoding: the new token, and its draft tokens.
MAX_DECODE_TOKENS = 1 + MAX_DRAFT_TOKENS
# Tokens that are decoded together. Beyond some tens a pass takes as long as its tokens, so that more win
# nothing, and everybody waits for everybody.
MAX_TURN_TOKENS = 64
# A chunk beside sessions that decode takes this long, or as long as they take for a step.
MAX_STALL_S = 0.1
# Shorter ones would read all weights for little.
MIN_CHUNK_TOKENS = 16
# A session whose step ended this long ago is still decoding: its next step is on its way.
_BETWEEN_STEPS_S = 1.0


@dataclass(slots=True, eq=False)
class StepRun:
    """One step on its way through the executor, chunk by chunk."""

    request: StepRequest
    body: bytes | bytearray | memoryview
    values: Array | None = None
    """Token ids or hidden states, once they were checked."""

    done_tokens: int = 0
    chunk_tokens: int = DEFAULT_CHUNK_TOKENS
    """Tokens of each row to compute in this turn."""

    results: list[Array] = field(default_factory=list)
    compute_s: float = 0.0

    @property
    def num_tokens(self) -> int:
        """Tokens of each row."""
        shape = self.request.tensor.shape
        return shape[1] if len(shape) > 1 else 0

    @property
    def num_rows(self) -> int:
        """Sequences of its session."""
        shape = self.request.tensor.shape
        return shape[0] if shape else 0

    @property
    def is_prompt(self) -> bool:
        """Whether it takes turns with the steps of those who decode, instead of joining them."""
        return self.num_tokens > MAX_DECODE_TOKENS

    @property
    def is_done(self) -> bool:
        """Whether every chunk was computed."""
        return self.values is not None and self.done_tokens == self.num_tokens


class StepQueue:
    """The steps of each lease in the order in which they came.

    Args:
        chunk_tokens: Tokens of a prompt, of all its rows, that are computed at a time while nobody decodes.
        clock: Seconds, from anywhere.
    """

    def __init__(
        self, *, chunk_tokens: int = DEFAULT_CHUNK_TOKENS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._chunk_tokens = chunk_tokens
        self._clock = clock
        self._runs: dict[int, deque[StepRun]] = {}
        """By lease; leases in the order of their turns."""

        self._is_turn_of_prompts = False
        self._decoded_at: dict[int, float] = {}
        """When the last step of each lease that decodes ended."""

        self._decode_turn_s = 0.0
        self._prompt_token_s = 0.0

    def __bool__(self) -> bool:
        return bool(self._runs)

    def add(self, run: StepRun) -> None:
        """Let `run` wait behind the other steps of its lease.

        Raises:
            BadInput: it has no tokens.
        """
        if not run.num_rows * run.num_tokens:
            raise BadInput(f"a step of shape {run.request.tensor.shape} has no tokens to compute")
        self._runs.setdefault(run.request.lease, deque()).append(run)

    def next_turn(self) -> list[StepRun]:
        """Return the steps of which `chunk_tokens` are to be computed now; empty if none waits."""
        first = [runs[0] for runs in self._runs.values()]
        decoding = [run for run in first if not run.is_prompt]
        prompts = [run for run in first if run.is_prompt]
        is_turn_of_prompts = bool(prompts) and (self._is_turn_of_prompts or not decoding)
        self._is_turn_of_prompts = not is_turn_of_prompts
        turn = prompts[:1] if is_turn_of_prompts else _as_many_as_fit(decoding)
        for run in turn:
            lease = run.request.lease
            self._runs[lease] = self._runs.pop(lease)  # behind all others
            left_tokens = run.num_tokens - run.done_tokens
            run.chunk_tokens = min(self._chunk(run), left_tokens) if run.is_prompt else left_tokens
        return turn

    def turn_ended(self, turn: Sequence[StepRun], elapsed_s: float) -> None:
        """Learn from a turn how long the next chunks may be; those of its steps that failed tell nothing."""
        turn = [run for run in turn if run in self._runs.get(run.request.lease, ())]
        if not turn:
            return
        if turn[0].is_prompt:
            self._prompt_token_s = elapsed_s / (turn[0].num_rows * turn[0].chunk_tokens)
            return
        now = self._clock()
        self._decode_turn_s = elapsed_s
        self._decoded_at |= {run.request.lease: now for run in turn}

    def _chunk(self, run: StepRun) -> int:
        """Return how many tokens of each row of a prompt may be computed, beside those who decode."""
        recently = self._clock() - _BETWEEN_STEPS_S
        self._decoded_at = {lease: at for lease, at in self._decoded_at.items() if at > recently}
        waiting = {lease for lease, runs in self._runs.items() if not runs[0].is_prompt}
        if not (waiting | self._decoded_at.keys()) - {run.request.lease}:
            return max(1, self._chunk_tokens // run.num_rows)
        allowed_s = max(MAX_STALL_S, self._decode_turn_s)
        allowed = int(allowed_s / self._prompt_token_s) if self._prompt_token_s else 0
        return max(1, min(self._chunk_tokens, max(MIN_CHUNK_TOKENS, allowed)) // run.num_rows)

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


def _as_many_as_fit(runs: Sequence[StepRun]) -> list[StepRun]:
    """Return the first of `runs`: those behind them are first in their next turn."""
    found: list[StepRun] = []
    left = MAX_TURN_TOKENS
    for run in runs:
        left -= run.num_rows * run.num_tokens
        if found and left < 0:
            break
        found.append(run)
    return found
