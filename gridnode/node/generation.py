"""Writing one answer: tokens from a session, text from tokens, until something ends it."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
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
    Waiting,
)
from gridnode.core.routing import Route
from gridnode.engine.text import TextCodec
from gridnode.node.answer_text import AnswerText
from gridnode.node.choosing import TokenChooser
from gridnode.node.drafting import Drafting
from gridnode.node.lasting_session import Interruption, LastingSession
from gridnode.node.remote_session import StepOutcome
from gridnode.wire.messages import HopTrace, Output


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One answer: an open session and what to do with it."""

    session: LastingSession
    request: GenerateRequest
    codec: TextCodec
    chooser: TokenChooser
    drafting: Drafting
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
        self.drafting.begin(token_ids)
        first_token_at = self.started_at
        while num_new < self.max_new_tokens and reason == "length":
            # The last token is chosen and never run: with one token to go there is nothing to draft.
            room = self.max_new_tokens - num_new - 1 if num_new else 0
            drafts = await self.drafting.propose(token_ids, room)
            lap_began_at, num_before = clock(), num_new
            advanced = await self.session.advance(token_ids, self._output(drafts), drafts=drafts)
            while isinstance(advanced, Interruption):
                yield Waiting(position=0, text=advanced.text)
                advanced = await self.session.advance(token_ids, self._output(drafts), drafts=drafts)
            outcome = advanced
            answered_at = clock()
            lap_s: float | None = answered_at - lap_began_at
            if self.session.num_reroutes > num_reroutes:
                num_reroutes = self.session.num_reroutes
                yield Rerouted(route=self.describe(self.session.session.plan.route))
                traces.clear()  # the figures at the end are those of the route at the end
                lap_s = None
            for token_id, logprobs in self._chosen(outcome, token_ids, drafts):
                num_new += 1
                if token_id in stop_ids:
                    reason = "stop"
                    break
                token_ids.append(token_id)
                yield Delta(text=shown.push(token_id), token_ids=(token_id,), logprobs=logprobs)
                if shown.stop_text:
                    reason = "stop"
                    break
            if num_before:
                traces.append(outcome.trace)
                self.drafting.note(num_drafts=len(drafts), num_accepted=num_new - num_before - 1, lap_s=lap_s)
            else:
                first_token_at = answered_at
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
            laps=self.drafting.num_laps,
            draft_tokens=self.drafting.num_proposed,
            accepted_draft_tokens=self.drafting.num_accepted,
            stop_text=shown.stop_text,
            tool_calls=tool_calls,
        )

    def _output(self, drafts: Sequence[int]) -> Output:
        if self.chooser.is_needed:
            return "all_logits" if drafts else "logits"
        return "tokens" if drafts else "token"

    def _chosen(
        self, outcome: StepOutcome, token_ids: Sequence[int], drafts: Sequence[int]
    ) -> Iterator[tuple[int, tuple[ChosenLogprob, ...]]]:
        """Yield the next tokens, which the caller appends to `token_ids` one by one: the last hop chose them,
        or their logits came.

        The choice behind a draft counts if the choice before it was that draft.
        """
        if self.chooser.is_needed:
            # [1, positions, vocab_size]
            logits = np.frombuffer(outcome.body, dtype="<f4").reshape(len(drafts) + 1, -1)
        else:
            chosen = np.frombuffer(outcome.body, dtype="<i4")
        for i in range(len(drafts) + 1):
            if self.chooser.is_needed:
                token_id, logprobs = self.chooser.choose(logits[i], token_ids)
            else:
                token_id, logprobs = int(chosen[i]), ()
            yield token_id, logprobs
            if i < len(drafts) and token_id != drafts[i]:
                return


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
