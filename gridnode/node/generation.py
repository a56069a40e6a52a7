"""Writing one answer: tokens from a session, text from tokens, until something ends it."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from gridnode.control.schema import (
    AnswerEvent,
    Delta,
    Finished,
    GenerateRequest,
    HopStatus,
    Rerouted,
    Started,
)
from gridnode.core.routing import Route
from gridnode.core.sampling import sample
from gridnode.core.stopping import StopFilter
from gridnode.engine.text import TextCodec
from gridnode.node.lasting_session import MAX_HISTORY_TOKENS, LastingSession
from gridnode.node.remote_session import StepOutcome
from gridnode.wire.messages import HopTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One answer: an open session and what to do with it."""

    session: LastingSession
    request: GenerateRequest
    codec: TextCodec
    prompt_ids: Sequence[int]
    max_new_tokens: int
    describe: Callable[[Route], tuple[HopStatus, ...]]
    """Returns the hops of a route in the words of the door."""

    started_at: float
    """Time of the request on the event loop's clock."""

    async def run(self) -> AsyncGenerator[AnswerEvent, None]:
        """Yield the events of the answer. Closing the generator leaves the session to its owner."""
        clock = asyncio.get_running_loop().time
        plan = self.session.session.plan
        yield Started(
            model=plan.model.name,
            route=self.describe(plan.route),
            prompt_tokens=len(self.prompt_ids),
            context_tokens=plan.max_tokens,
        )
        decoder, stop = self.codec.stream_decoder(), StopFilter(self.request.stop)
        stop_ids = frozenset() if self.request.ignore_eos else self.codec.stop_ids
        token_ids = list(self.prompt_ids)
        traces: list[tuple[HopTrace, ...]] = []
        reason: Literal["stop", "length"] = "length"
        num_new, num_reroutes = 0, 0
        first_token_at = self.started_at
        while num_new < self.max_new_tokens:
            outcome = await self.session.advance(token_ids, self._output)
            if self.session.num_reroutes > num_reroutes:
                num_reroutes = self.session.num_reroutes
                yield Rerouted(route=self.describe(self.session.session.plan.route))
                traces.clear()  # the figures at the end are those of the route at the end
            token_id = self._chosen(outcome, token_ids)
            num_new += 1
            if num_new == 1:
                first_token_at = clock()
            else:
                traces.append(outcome.trace)
            if token_id in stop_ids:
                reason = "stop"
                break
            token_ids.append(token_id)
            yield Delta(text=stop.push(decoder.push(token_id)), token_ids=(token_id,))
            if stop.is_stopped:
                reason = "stop"
                break
        decode_s = clock() - first_token_at
        if rest := stop.flush():
            yield Delta(text=rest, token_ids=())
        yield Finished(
            reason=reason,
            prompt_tokens=len(self.prompt_ids),
            completion_tokens=num_new,
            ttft_s=first_token_at - self.started_at,
            decode_tokens_per_s=(num_new - 1) / decode_s if num_new > 1 else 0.0,
            route=measured_hops(self.describe(self.session.session.plan.route), traces or [outcome.trace]),
            reroutes=num_reroutes,
        )

    @property
    def _output(self) -> Literal["token", "logits"]:
        return "token" if self.request.sample_at == "last_hop" else "logits"

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
