"""Answering a request: tokens in, a session through the swarm, text out."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from gridnode.control.schema import Delta, Finished, GenerateRequest, HopStatus, Started
from gridnode.core.sampling import sample
from gridnode.core.stopping import StopFilter
from gridnode.engine.text import TextCodec
from gridnode.node.remote_session import RemoteSession, StepOutcome
from gridnode.wire.messages import HopTrace, Output, StepKind
from gridnode.wire.tensors import TensorHeader

# The tokens that repetition penalty looks at travel with every step; more than these are cut off.
MAX_HISTORY_TOKENS = 4096
# Steps of a prompt under way at once: enough to keep a dozen hops busy, few enough to cancel quickly.
MAX_CHUNKS_UNDER_WAY = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One answer: an open session and what to do with it."""

    session: RemoteSession
    request: GenerateRequest
    codec: TextCodec
    prompt_ids: Sequence[int]
    max_new_tokens: int
    hops: tuple[HopStatus, ...]
    started_at: float
    """Time of the request on the event loop's clock."""

    async def run(self) -> AsyncGenerator[Started | Delta | Finished, None]:
        """Yield the events of the answer. Closing the generator leaves the session to its owner."""
        clock = asyncio.get_running_loop().time
        yield Started(
            model=self.session.plan.model.name,
            route=self.hops,
            prompt_tokens=len(self.prompt_ids),
            context_tokens=self.session.plan.max_tokens,
        )
        decoder = self.codec.stream_decoder()
        stop = StopFilter(self.request.stop)
        stop_ids = frozenset() if self.request.ignore_eos else self.codec.stop_ids
        token_ids = list(self.prompt_ids)
        traces: list[tuple[HopTrace, ...]] = []
        outcome = await self._prefill()
        first_token_at = clock()
        reason: Literal["stop", "length"] = "length"
        num_new = 0
        while True:
            token_id = self._chosen(outcome, token_ids)
            num_new += 1
            if token_id in stop_ids:
                reason = "stop"
                break
            token_ids.append(token_id)
            yield Delta(text=stop.push(decoder.push(token_id)), token_ids=(token_id,))
            if stop.is_stopped:
                reason = "stop"
                break
            if num_new >= self.max_new_tokens:
                break
            outcome = await self._step(token_ids[-1:], len(token_ids) - 1, StepKind.DECODE, token_ids)
            traces.append(outcome.trace)
        decode_s = clock() - first_token_at
        if rest := stop.flush():
            yield Delta(text=rest, token_ids=())
        yield Finished(
            reason=reason,
            prompt_tokens=len(self.prompt_ids),
            completion_tokens=num_new,
            ttft_s=first_token_at - self.started_at,
            decode_tokens_per_s=len(traces) / decode_s if traces else 0.0,
            route=measured_hops(self.hops, traces or [outcome.trace]),
        )

    @property
    def _output(self) -> Output:
        return "token" if self.request.sample_at == "last_hop" else "logits"

    async def _prefill(self) -> StepOutcome:
        """Run the prompt in chunks that follow each other through the hops; return the last outcome."""
        size = self.request.prefill_chunk_tokens
        starts = range(0, len(self.prompt_ids), size)
        limit = asyncio.Semaphore(MAX_CHUNKS_UNDER_WAY)

        async def run_chunk(start: int) -> StepOutcome:
            async with limit:
                chunk = self.prompt_ids[start : start + size]
                if start == starts[-1]:
                    return await self._step(chunk, start, StepKind.PREFILL, self.prompt_ids)
                return await self._step(chunk, start, StepKind.PREFILL, (), output="none")

        # They start in order, and so do their steps. One that fails has failed the session.
        return (await asyncio.gather(*map(run_chunk, starts)))[-1]

    async def _step(
        self,
        token_ids: Sequence[int],
        position: int,
        kind: StepKind,
        history: Sequence[int],
        *,
        output: Output | None = None,
    ) -> StepOutcome:
        penalized = self.request.sampling.needs_history and self.request.sample_at == "last_hop"
        return await self.session.step(
            np.asarray(token_ids, dtype="<i4").tobytes(),
            TensorHeader("int32", (1, len(token_ids))),
            position=position,
            kind=kind,
            output=output or self._output,
            history=tuple(history[-MAX_HISTORY_TOKENS:]) if penalized else (),
        )

    def _chosen(self, outcome: StepOutcome, token_ids: Sequence[int]) -> int:
        """Return the next token: the last hop chose it, or its logits came."""
        if self.request.sample_at == "last_hop":
            return int(np.frombuffer(outcome.body, dtype="<i4")[0])
        logits = np.frombuffer(outcome.body, dtype="<f4")
        history = token_ids[-MAX_HISTORY_TOKENS:]
        return sample(logits, self.request.sampling, position=len(token_ids), history=history)


def measured_hops(
    hops: tuple[HopStatus, ...], traces: Sequence[tuple[HopTrace, ...]]
) -> tuple[HopStatus, ...]:
    """Return `hops` with the medians of what they did in `traces`, one trace a step."""
    return tuple(
        replace(
            hop,
            steps=len(traces),
            compute_s=statistics.median(trace[i].compute_s for trace in traces),
            hop_s=statistics.median(trace[i].hop_s for trace in traces),
            received_bytes=int(statistics.median(trace[i].received_bytes for trace in traces)),
            sent_bytes=int(statistics.median(trace[i].sent_bytes for trace in traces)),
        )
        for i, hop in enumerate(hops)
    )
