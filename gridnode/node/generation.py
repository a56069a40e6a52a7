"""Writing one answer: tokens from a session, text from tokens, until something ends it."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from gridnode.control.answer_schema import (
    AnswerEvent,
    ChosenLogprob,
    Delta,
    Finished,
    GenerateRequest,
    HopStatus,
    Rerouted,
    Started,
)
from gridnode.core.routing import Route
from gridnode.engine.text import TextCodec
from gridnode.node.answer_text import AnswerText
from gridnode.node.choosing import TokenChooser
from gridnode.node.lasting_session import LastingSession
from gridnode.node.remote_session import StepOutcome
from gridnode.wire.messages import HopTrace


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One answer: an open session and what to do with it."""

    session: LastingSession
    request: GenerateRequest
    codec: TextCodec
    chooser: TokenChooser
    prompt_ids: Sequence[int]
    max_new_tokens: int
    context_limit_tokens: int
    """Longest session that the route takes."""

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
            context_limit_tokens=self.context_limit_tokens,
        )
        shown = AnswerText(self.request, self.codec)
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
            token_id, logprobs = self._chosen(outcome, token_ids)
            num_new += 1
            if num_new == 1:
                first_token_at = clock()
            else:
                traces.append(outcome.trace)
            if token_id in stop_ids:
                reason = "stop"
                break
            token_ids.append(token_id)
            yield Delta(text=shown.push(token_id), token_ids=(token_id,), logprobs=logprobs)
            if shown.stop_text:
                reason = "stop"
                break
        decode_s = clock() - first_token_at
        rest, tool_calls = shown.finish()
        if rest:
            yield Delta(text=rest, token_ids=())
        yield Finished(
            reason="tool_calls" if tool_calls else reason,
            prompt_tokens=len(self.prompt_ids),
            completion_tokens=num_new,
            ttft_s=first_token_at - self.started_at,
            decode_tokens_per_s=(num_new - 1) / decode_s if num_new > 1 else 0.0,
            route=measured_hops(self.describe(self.session.session.plan.route), traces or [outcome.trace]),
            reroutes=num_reroutes,
            stop_text=shown.stop_text,
            tool_calls=tool_calls,
        )

    @property
    def _output(self) -> Literal["token", "logits"]:
        return "logits" if self.chooser.is_needed else "token"

    def _chosen(
        self, outcome: StepOutcome, token_ids: Sequence[int]
    ) -> tuple[int, tuple[ChosenLogprob, ...]]:
        """Return the next token: the last hop chose it, or its logits came."""
        if not self.chooser.is_needed:
            return int(np.frombuffer(outcome.body, dtype="<i4")[0]), ()
        return self.chooser.choose(np.frombuffer(outcome.body, dtype="<f4"), token_ids)


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
