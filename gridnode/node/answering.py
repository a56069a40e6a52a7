"""Answering what the door asks, with sessions through the swarm."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from gridnode.control.answer_schema import AnswerEvent, Embedded, EmbedRequest, GenerateRequest
from gridnode.control.score_schema import Scored, ScoreRequest
from gridnode.core.routing import Aim
from gridnode.errors import BadInput, ContextFull
from gridnode.node.draft_model import DraftModel
from gridnode.node.embedding import embed_tokens
from gridnode.node.model_access import ModelAccess
from gridnode.node.opening import Opening
from gridnode.node.prompting import prepare_prompt
from gridnode.node.scoring import Scorer
from gridnode.node.waiting_line import WaitingLine, Wanted


class Answering:
    """Answers requests, many at once; see `gridnode.control.interface.NodeControl`."""

    def __init__(self, models: ModelAccess, draft_model: DraftModel) -> None:
        self._models = models
        self._draft_model = draft_model
        self._line = WaitingLine()
        self.num_running = 0
        """Answers that are not finished."""

        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def num_waiting(self) -> int:
        """Answers that wait until the swarm has room for them."""
        return len(self._line)

    async def wait_idle(self) -> None:
        """Return once no answer is running. Cancelling is safe."""
        await self._idle.wait()

    async def run(self, request: GenerateRequest) -> AsyncGenerator[AnswerEvent, None]:
        """Yield the events of the answer to `request`."""
        self.num_running += 1
        self._idle.clear()
        try:
            async with contextlib.aclosing(self._run(request)) as events:
                async for event in events:
                    yield event
        finally:
            self.num_running -= 1
            if not self.num_running:
                self._idle.set()

    async def _run(self, request: GenerateRequest) -> AsyncGenerator[AnswerEvent, None]:
        async with contextlib.aclosing(self._opening(request)) as opening:
            line = self._line.enter(opening.begin, lambda: self._wanted(request), request.max_wait_s)
            async with contextlib.aclosing(line) as places:
                async for waiting in places:
                    yield waiting
            async with contextlib.aclosing(opening.generation.run()) as events:
                async for event in events:
                    yield event

    def _wanted(self, request: GenerateRequest) -> Wanted:
        found = self._models.named(request.model)
        model = found[0][0].manifest if len(found) == 1 else request.model
        return Wanted(model=model, routing=request.routing, adapter=request.adapter)

    def _opening(self, request: GenerateRequest) -> Opening:
        started_at = asyncio.get_running_loop().time()
        return Opening(self._models, self._draft_model, request, started_at=started_at)

    async def embed(self, request: EmbedRequest) -> Embedded:
        """Return the vectors of `request`."""
        if bool(request.texts) == bool(request.token_ids):
            raise BadInput("give either texts or token_ids")
        model, num_blocks = await self._models.resolve(request.model)
        codec = await self._models.codec(model)
        given = [codec.encode(text) for text in request.texts] or request.token_ids
        if not all(given):
            raise BadInput("a text without tokens has no vector")
        context_tokens = self._models.context_tokens(model, num_blocks, wishes=request.routing)
        longest = max(map(len, given))
        if longest > context_tokens:
            raise ContextFull(longest, context_tokens)
        vectors = []
        for token_ids in given:
            opener = self._models.opener(
                model,
                num_blocks,
                max_tokens=len(token_ids),
                wishes=request.routing,
                aim=Aim.THROUGHPUT,
            )
            vectors.append(tuple((await embed_tokens(opener, token_ids)).tolist()))
        return Embedded(model=model.name, vectors=tuple(vectors), prompt_tokens=sum(map(len, given)))

    async def score(self, request: ScoreRequest) -> Scored:
        """Return how probable the texts of `request` are."""
        model, num_blocks = await self._models.resolve(request.model)
        # While there is no route, nobody may have the tokenizer either.
        self._models.route(model, num_blocks, wishes=request.routing)
        codec = await self._models.codec(model)
        scorer = Scorer(self._models, model, num_blocks, codec, wishes=request.routing)
        return Scored(model=model.name, scores=await scorer.score(request))

    async def tokenize(self, request: GenerateRequest) -> tuple[int, ...]:
        """Return the token ids of the prompt of `request`."""
        model, _ = await self._models.resolve(request.model)
        codec = await self._models.codec(model)
        return tuple(await prepare_prompt(request, codec))
