"""From a request to a running session: which model, which tokens, which route."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

from gridnode.control.schema import AnswerEvent, Embedded, EmbedRequest, GenerateRequest
from gridnode.core.ids import ModelId
from gridnode.core.sampling import GREEDY, SamplingParams
from gridnode.engine.text import TextCodec
from gridnode.errors import BadInput, ContextFull, ModelUnknown
from gridnode.node.choosing import TokenChooser, constraint_schema
from gridnode.node.embedding import embed_tokens
from gridnode.node.generation import Generation
from gridnode.node.lasting_session import LastingSession
from gridnode.node.links import Links
from gridnode.node.prompting import prompt_tokens
from gridnode.node.session_opener import SessionOpener
from gridnode.node.status import SwarmView
from gridnode.node.waiting_line import WaitingLine


class Answering:
    """Answers requests with sessions through the swarm.

    Args:
        view: Returns the swarm as it is now.
        wait_change: Returns once the view may have changed.
        codec: Returns the text side of a model; raises a `GridError` if this node has none.
    """

    def __init__(
        self,
        links: Links,
        *,
        view: Callable[[], SwarmView],
        wait_change: Callable[[], Awaitable[None]],
        codec: Callable[[ModelId], Awaitable[TextCodec]],
    ) -> None:
        self._links = links
        self._view = view
        self._wait_change = wait_change
        self._codec = codec
        self._line = WaitingLine()
        self.num_running = 0
        """Answers that are not finished."""

        self._idle = asyncio.Event()
        self._idle.set()

    async def wait_idle(self) -> None:
        """Return once no answer is running. Cancelling is safe."""
        await self._idle.wait()

    async def run(self, request: GenerateRequest) -> AsyncGenerator[AnswerEvent, None]:
        """Yield the events of the answer to `request`; see `NodeControl.generate`."""
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
        started_at = asyncio.get_running_loop().time()
        model, num_blocks = self._resolve(request.model)
        codec = await self._codec(model)
        prompt_ids = prompt_tokens(request, codec)
        schema = constraint_schema(request)
        constraint = await asyncio.to_thread(codec.json_constraint, schema) if schema else None
        chooser = TokenChooser(request, codec, constraint)
        session: LastingSession | None = None
        context, max_new_tokens = 0, 0

        async def begin() -> None:
            nonlocal session, context, max_new_tokens
            context = self._context_tokens(model, num_blocks)
            if len(prompt_ids) >= context:
                raise ContextFull(len(prompt_ids) + 1, context)
            max_new_tokens = min(request.max_tokens, context - len(prompt_ids))
            # The last token is chosen and never run, so that it needs no place in the cache.
            opener = self._opener(model, num_blocks, len(prompt_ids) + max_new_tokens - 1, request.sampling)
            session = LastingSession(
                opener,
                chunk_tokens=request.prefill_chunk_tokens,
                sends_history=request.sampling.needs_history and not chooser.is_needed,
            )
            opened.push_async_callback(session.aclose)
            await session.open()

        async with contextlib.AsyncExitStack() as opened:
            async with contextlib.aclosing(self._line.enter(begin, request.max_wait_s)) as line:
                async for waiting in line:
                    yield waiting
            assert session is not None
            generation = Generation(
                session=session,
                request=request,
                codec=codec,
                chooser=chooser,
                prompt_ids=prompt_ids,
                max_new_tokens=max_new_tokens,
                context_limit_tokens=context,
                describe=lambda route: self._view().hops(route),
                started_at=started_at,
            )
            async with contextlib.aclosing(generation.run()) as events:
                async for event in events:
                    yield event

    async def embed(self, request: EmbedRequest) -> Embedded:
        """Return the vectors of `request`; see `NodeControl.embed`."""
        model, num_blocks = self._resolve(request.model)
        if bool(request.texts) == bool(request.token_ids):
            raise BadInput("give either texts or token_ids")
        codec = await self._codec(model)
        given = [codec.encode(text) for text in request.texts] or request.token_ids
        if not all(given):
            raise BadInput("a text without tokens has no vector")
        context = self._context_tokens(model, num_blocks)
        for token_ids in given:
            if len(token_ids) > context:
                raise ContextFull(len(token_ids), context)
        vectors = []
        for token_ids in given:
            opener = self._opener(model, num_blocks, len(token_ids), GREEDY)
            vectors.append(tuple((await embed_tokens(opener, token_ids)).tolist()))
        return Embedded(model=model.name, vectors=tuple(vectors), prompt_tokens=sum(map(len, given)))

    def _opener(
        self, model: ModelId, num_blocks: int, max_tokens: int, sampling: SamplingParams
    ) -> SessionOpener:
        return SessionOpener(
            self._links,
            view=self._view,
            wait_change=self._wait_change,
            model=model,
            num_blocks=num_blocks,
            max_tokens=max_tokens,
            sampling=sampling,
        )

    def _context_tokens(self, model: ModelId, num_blocks: int) -> int:
        """Return the longest session that the best route takes; room for it is another question."""
        view = self._view()
        return view.context_tokens(view.route(model, num_blocks, cache_tokens=0))

    async def tokenize(self, request: GenerateRequest) -> tuple[int, ...]:
        """Return the token ids of the prompt; see `NodeControl.tokenize`."""
        model, _ = self._resolve(request.model)
        return tuple(prompt_tokens(request, await self._codec(model)))

    def _resolve(self, wanted: str) -> tuple[ModelId, int]:
        """Return the model that `wanted` names: by name, last part of the name, or start of the manifest."""
        models = self._view().swarm.models()
        found = [
            (model, num_blocks)
            for model, num_blocks in sorted(models.items())
            if not wanted
            or wanted in (model.name, model.name.rsplit("/", 1)[-1])
            or (len(wanted) >= 6 and model.manifest.startswith(wanted))
        ]
        if len(found) == 1:
            return found[0]
        known = ", ".join(str(model) for model in sorted(models)) or "none yet"
        if not found:
            raise ModelUnknown(f"nobody in the swarm serves {wanted or 'a model'}; served now: {known}")
        raise BadInput(f"{wanted or 'the swarm'} has several models, name one: {known}")
