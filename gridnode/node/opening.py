"""From a request to an open session: which model, which tokens, which route."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gridnode.control.answer_schema import GenerateRequest
from gridnode.core.ids import ModelId
from gridnode.engine.text import TextCodec
from gridnode.engine.tuned_tensors import Added
from gridnode.errors import ContextFull
from gridnode.node.choosing import TokenChooser, constraint_schema
from gridnode.node.draft_model import DraftModel
from gridnode.node.drafting import Drafter, Drafting, NgramDrafter
from gridnode.node.generation import Generation
from gridnode.node.lasting_session import LastingSession
from gridnode.node.model_access import ModelAccess
from gridnode.node.prompting import prepare_prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """What does not change while an answer waits for room."""

    model: ModelId
    num_blocks: int
    codec: TextCodec
    prompt_ids: list[int]
    chooser: TokenChooser


class Opening:
    """The beginning of one answer; `begin` may be tried again until it succeeds.

    Args:
        started_at: Time of the request on the event loop's clock.
    """

    def __init__(
        self, models: ModelAccess, draft_model: DraftModel, request: GenerateRequest, *, started_at: float
    ) -> None:
        self._models = models
        self._draft_model = draft_model
        self._request = request
        self._started_at = started_at
        self._question: _Question | None = None
        self._session: LastingSession | None = None
        self._generation: Generation | None = None
        self._drafting = Drafting(None)

    @property
    def generation(self) -> Generation:
        """The answer, once `begin` has succeeded."""
        assert self._generation is not None
        return self._generation

    async def begin(self) -> None:
        """Open the session.

        Raises:
            GridError: as `NodeControl.generate`; nothing is open then.
        """
        if self._question is None:
            self._question = await self._ask()
        question, request = self._question, self._request
        context_tokens = self._models.context_tokens(
            question.model, question.num_blocks, wishes=request.routing
        )
        num_prompt = len(question.prompt_ids)
        if num_prompt >= context_tokens:
            raise ContextFull(num_prompt + 1, context_tokens)
        max_new_tokens = min(request.max_tokens, context_tokens - num_prompt)
        # The last token is chosen and never run, so that it needs no place in the cache.
        max_tokens = num_prompt + max_new_tokens - 1
        opener = self._models.opener(
            question.model,
            question.num_blocks,
            max_tokens=max_tokens,
            sampling=request.sampling,
            wishes=request.routing,
            added=Added(adapter=self._adapter_id(question.model)),
        )
        self._session = LastingSession(
            opener,
            chunk_tokens=request.prefill_chunk_tokens,
            patience_s=request.max_interruption_s,
            sends_history=request.sampling.needs_history and not question.chooser.is_needed,
        )
        await self._session.open()
        self._drafting = Drafting(await self._drafter(question.codec, max_tokens))
        self._generation = Generation(
            session=self._session,
            request=request,
            codec=question.codec,
            chooser=question.chooser,
            drafting=self._drafting,
            prompt_ids=question.prompt_ids,
            max_new_tokens=max_new_tokens,
            context_limit_tokens=context_tokens,
            describe=lambda route: self._models.view().hops(route),
            started_at=self._started_at,
        )

    def _adapter_id(self, model: ModelId) -> str:
        wanted = self._request.adapter
        return self._models.view().adapter_id(model, wanted) if wanted else ""

    async def aclose(self) -> None:
        """Free the lease on every hop at once. Safe to call more than once."""
        if self._session is not None:
            await self._session.aclose()
        await self._drafting.aclose()

    async def _drafter(self, codec: TextCodec, max_tokens: int) -> Drafter | None:
        """Return who proposes tokens: the draft model, or else the text itself."""
        if self._request.drafts == "off":
            return None
        found = await self._draft_model.drafter(codec, self._request.sampling, max_tokens=max_tokens)
        return found or NgramDrafter()

    async def _ask(self) -> _Question:
        request = self._request
        model, num_blocks = await self._models.resolve(request.model)
        # While there is no route, nobody may have the tokenizer either.
        self._models.route(model, num_blocks, wishes=request.routing)
        codec = await self._models.codec(model)
        prompt_ids = await prepare_prompt(request, codec)
        schema = constraint_schema(request)
        constraint = await asyncio.to_thread(codec.json_constraint, schema) if schema else None
        return _Question(
            model=model,
            num_blocks=num_blocks,
            codec=codec,
            prompt_ids=prompt_ids,
            chooser=TokenChooser(request, codec, constraint),
        )
