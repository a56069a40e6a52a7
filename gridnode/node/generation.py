"""Writing one answer: tokens from a session, text from tokens, until something ends it."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
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
    ToolCall,
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


@dataclass(slots=True)
class _Progress:
    """How far an answer is."""

    token_ids: list[int]
    """The prompt, and what was written so far."""

    first_token_at: float
    num_new: int = 0
    """Tokens chosen, a stop token included."""

    num_reroutes: int = 0
    is_stopped: bool = False
    """Whether a stop token or a stop text has come."""

    last_trace: tuple[HopTrace, ...] = ()
    traces: list[tuple[HopTrace, ...]] = field(default_factory=list)
    """What the hops of the present route did in each decode step."""

    def follow(self, num_reroutes: int) -> bool:
        """Return whether the route is another one than in the last lap, and forget what that did."""
        if num_reroutes == self.num_reroutes:
            return False
        self.num_reroutes = num_reroutes
        self.traces.clear()  # the figures at the end are those of the route at the end
        return True


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
        yield self._started()
        shown = AnswerText(self.request, self.codec)
        answer = _Progress(list(self.prompt_ids), first_token_at=self.started_at)
        self.drafting.begin(answer.token_ids)
        while answer.num_new < self.max_new_tokens and not answer.is_stopped:
            # The last token is chosen and never run: with one token to go there is nothing to draft.
            room = self.max_new_tokens - answer.num_new - 1 if answer.num_new else 0
            drafts = await self.drafting.propose(answer.token_ids, room)
            lap_began_at, num_before = clock(), answer.num_new
            while isinstance(outcome := await self._lap(answer.token_ids, drafts), Interruption):
                yield Waiting(position=0, text=outcome.text)
            answered_at = clock()
            is_rerouted = answer.follow(self.session.num_reroutes)
            if is_rerouted:
                yield Rerouted(route=self.describe(self.session.session.plan.route))
            for delta in self._deltas(answer, shown, outcome, drafts):
                yield delta
            answer.last_trace = outcome.trace
            if num_before:
                answer.traces.append(outcome.trace)
                self.drafting.note(
                    num_drafts=len(drafts),
                    num_accepted=answer.num_new - num_before - 1,
                    lap_s=None if is_rerouted else answered_at - lap_began_at,
                )
            else:
                answer.first_token_at = answered_at
        ended_at = clock()
        rest, tool_calls = shown.finish()
        if rest:
            yield Delta(text=rest, token_ids=())
        yield self._finished(answer, shown.stop_text, tool_calls, ended_at)

    def _started(self) -> Started:
        plan = self.session.session.plan
        return Started(
            model=plan.model.name,
            route=self.describe(plan.route),
            prompt_tokens=len(self.prompt_ids),
            context_tokens=plan.max_tokens,
            context_limit_tokens=self.context_limit_tokens,
        )

    async def _lap(self, token_ids: Sequence[int], drafts: Sequence[int]) -> StepOutcome | Interruption:
        return await self.session.advance(token_ids, self._output(drafts), drafts=drafts)

    def _deltas(
        self, answer: _Progress, shown: AnswerText, outcome: StepOutcome, drafts: Sequence[int]
    ) -> Iterator[Delta]:
        """Take over what a lap answered, token by token, until one of them ends the answer."""
        stop_ids = frozenset() if self.request.ignore_eos else self.codec.stop_ids
        for token_id, logprobs in self._chosen(outcome, answer.token_ids, drafts):
            answer.num_new += 1
            if token_id in stop_ids:
                answer.is_stopped = True
                return
            answer.token_ids.append(token_id)
            yield Delta(text=shown.push(token_id), token_ids=(token_id,), logprobs=logprobs)
            if shown.stop_text:
                answer.is_stopped = True
                return

    def _finished(
        self, answer: _Progress, stop_text: str, tool_calls: tuple[ToolCall, ...], ended_at: float
    ) -> Finished:
        decode_s = ended_at - answer.first_token_at
        reason: Literal["stop", "length"] = "stop" if answer.is_stopped else "length"
        return Finished(
            reason="tool_calls" if tool_calls else reason,
            prompt_tokens=len(self.prompt_ids),
            completion_tokens=answer.num_new,
            ttft_s=answer.first_token_at - self.started_at,
            decode_tokens_per_s=(answer.num_new - 1) / decode_s if answer.num_new > 1 else 0.0,
            route=measured_hops(
                self.describe(self.session.session.plan.route), answer.traces or [answer.last_trace]
            ),
            reroutes=answer.num_reroutes,
            laps=self.drafting.num_laps,
            draft_tokens=self.drafting.num_proposed,
            accepted_draft_tokens=self.drafting.num_accepted,
            stop_text=stop_text,
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
