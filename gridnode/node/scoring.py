"""How probable tokens are behind those before them: computed by the last hop, many texts at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import takewhile

import numpy as np

from gridnode.control.score_schema import AnswerScore, ScoreRequest, TextScore
from gridnode.core.ids import ModelId
from gridnode.core.route_wishes import RouteWishes
from gridnode.core.routing import Aim
from gridnode.core.sampling import FloatArray
from gridnode.engine.arrays import to_array
from gridnode.engine.text import TextCodec
from gridnode.errors import ContextFull
from gridnode.node.model_access import ModelAccess
from gridnode.node.remote_session import RemoteSession
from gridnode.node.restarting import restarting
from gridnode.wire.messages import StepKind
from gridnode.wire.tensors import TensorHeader

# Enough that every hop has something to do while others compute; each holds a lease.
TEXTS_AT_ONCE = 8
# Tokens of one step; those behind it follow while it is on its way.
CHUNK_TOKENS = 256


class Scorer:
    """Scores texts with one model of the swarm, on the nodes that `wishes` name."""

    def __init__(
        self, models: ModelAccess, model: ModelId, num_blocks: int, codec: TextCodec, *, wishes: RouteWishes
    ) -> None:
        self._models = models
        self._model = model
        self._num_blocks = num_blocks
        self._codec = codec
        self._wishes = wishes
        self._room = asyncio.Semaphore(TEXTS_AT_ONCE)

    async def score(self, request: ScoreRequest) -> tuple[TextScore, ...]:
        """Return the scores of all texts. Cancelling frees the leases at once.

        Raises:
            BadInput: the model has no chat template, and the request needs one.
            GridError: the swarm cannot compute it.
        """
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._score(request, text)) for text in request.texts]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return tuple(task.result() for task in tasks)

    async def _score(self, request: ScoreRequest, text: str) -> TextScore:
        async with self._room:
            if not request.answers:
                return await self._text(await asyncio.to_thread(self._codec.encode, text))
            if request.raw:
                prompt_ids = await asyncio.to_thread(self._codec.encode, text)
            else:
                asked = [{"role": "user", "content": text}]
                async with self._codec.room:
                    prompt_ids = await asyncio.to_thread(self._codec.encode_chat, asked)
            endings = [self._codec.encode_continuation(answer) for answer in request.answers]
            return await self._answers(prompt_ids, endings, request.answers)

    async def _text(self, token_ids: list[int]) -> TextScore:
        if len(token_ids) < 2:
            return _without_score("a text of fewer than two tokens has no likelihood")
        if problem := self._too_long(len(token_ids) - 1):
            return problem
        (found,) = await self._likelihoods([token_ids])
        return TextScore(log_likelihood=float(found.sum()), num_tokens=len(found))

    async def _answers(
        self, prompt_ids: list[int], endings: Sequence[list[int]], answers: Sequence[str]
    ) -> TextScore:
        if not prompt_ids or not all(endings):
            return _without_score("a text or an answer without tokens has no likelihood")
        if problem := self._too_long(len(prompt_ids) + max(map(len, endings)) - 1):
            return problem
        found = await self._likelihoods([prompt_ids + ending for ending in endings])
        sums = [float(each[-len(ending) :].sum()) for each, ending in zip(found, endings, strict=True)]
        weights = np.exp(np.array(sums) - max(sums))
        best = int(np.argmax(weights))
        return TextScore(
            log_likelihood=sums[best],
            num_tokens=len(endings[best]),
            answers=tuple(
                AnswerScore(answer=answer, log_likelihood=total, probability=float(weight / weights.sum()))
                for answer, total, weight in zip(answers, sums, weights, strict=True)
            ),
        )

    def _too_long(self, num_tokens: int) -> TextScore | None:
        limit = self._models.context_tokens(self._model, self._num_blocks, wishes=self._wishes)
        return _without_score(str(ContextFull(num_tokens, limit))) if num_tokens > limit else None

    async def _likelihoods(self, sequences: Sequence[list[int]]) -> list[FloatArray]:
        """Return the log-likelihoods of all tokens but the first of each sequence, in one session."""
        opener = self._models.opener(
            self._model,
            self._num_blocks,
            max_tokens=max(map(len, sequences)) - 1,
            wishes=self._wishes,
            aim=Aim.THROUGHPUT,
        )

        async def run(session: RemoteSession) -> list[FloatArray]:
            found: list[FloatArray] = []
            before: list[int] = []
            for token_ids in sequences:
                # What it has in common with the one before is in the caches, and was judged.
                same = sum(
                    1
                    for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, token_ids, strict=False))
                )
                start = max(min(same, len(token_ids) - 1) - 1, 0)
                judged = found[-1][:start] if found else np.empty(0)
                found.append(np.concatenate([judged, await _run(session, token_ids, start)]))
                before = token_ids
            return found

        return await restarting(opener, run)


async def _run(session: RemoteSession, token_ids: list[int], start: int) -> FloatArray:
    """Return the log-likelihoods of the tokens behind position `start`."""

    async def run_chunk(begin: int) -> FloatArray:
        targets = token_ids[begin + 1 : begin + 1 + CHUNK_TOKENS]
        chunk = np.asarray(token_ids[begin : begin + len(targets)], dtype="<i4")
        outcome = await session.step(
            chunk.tobytes(),
            TensorHeader("int32", (1, chunk.size)),
            position=begin,
            kind=StepKind.PREFILL,
            output="likelihoods",
            history=targets,
        )
        result: FloatArray = to_array(outcome.tensor, outcome.body)[0].astype(np.float64)
        return result

    # They start in order, and so do their steps, which follow each other through the hops.
    chunks = await asyncio.gather(*map(run_chunk, range(start, len(token_ids) - 1, CHUNK_TOKENS)))
    result: FloatArray = np.concatenate(chunks)
    return result


def _without_score(problem: str) -> TextScore:
    return TextScore(log_likelihood=0.0, num_tokens=0, problem=problem)
