"""From a request to a running session: which model, which tokens, which route."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

from gridnode.control.schema import AnswerEvent, GenerateRequest
from gridnode.core.ids import ModelId
from gridnode.engine.text import TextCodec
from gridnode.errors import BadInput, ContextFull, ModelUnknown
from gridnode.node.generation import Generation
from gridnode.node.lasting_session import LastingSession
from gridnode.node.links import Links
from gridnode.node.session_opener import SessionOpener
from gridnode.node.status import SwarmView


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
        codec: Callable[[ModelId], TextCodec],
    ) -> None:
        self._links = links
        self._view = view
        self._wait_change = wait_change
        self._codec = codec

    async def run(self, request: GenerateRequest) -> AsyncGenerator[AnswerEvent, None]:
        """Yield the events of the answer to `request`; see `NodeControl.generate`."""
        started_at = asyncio.get_running_loop().time()
        model, num_blocks = self._resolve(request.model)
        codec = self._codec(model)
        prompt_ids = prompt_tokens(request, codec)
        context = self._context_tokens(model, num_blocks)
        if len(prompt_ids) >= context:
            raise ContextFull(len(prompt_ids) + 1, context)
        max_new_tokens = min(request.max_tokens, context - len(prompt_ids))
        opener = SessionOpener(
            self._links,
            view=self._view,
            wait_change=self._wait_change,
            model=model,
            num_blocks=num_blocks,
            # The last token is chosen and never run, so that it needs no place in the cache.
            max_tokens=len(prompt_ids) + max_new_tokens - 1,
            sampling=request.sampling,
        )
        session = LastingSession(
            opener,
            chunk_tokens=request.prefill_chunk_tokens,
            sends_history=request.sampling.needs_history and request.sample_at == "last_hop",
        )
        async with contextlib.aclosing(session):
            await session.open()
            generation = Generation(
                session=session,
                request=request,
                codec=codec,
                prompt_ids=prompt_ids,
                max_new_tokens=max_new_tokens,
                describe=lambda route: self._view().hops(route),
                started_at=started_at,
            )
            async with contextlib.aclosing(generation.run()) as events:
                async for event in events:
                    yield event

    def _context_tokens(self, model: ModelId, num_blocks: int) -> int:
        """Return the longest session that the best route takes; room for it is another question."""
        view = self._view()
        return view.context_tokens(view.route(model, num_blocks, cache_tokens=0))

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


def prompt_tokens(request: GenerateRequest, codec: TextCodec) -> list[int]:
    """Return the token ids of what `request` asks.

    Raises:
        BadInput: not exactly one of messages, prompt and token ids is given, or it is empty.
    """
    given = [bool(request.messages), bool(request.prompt), bool(request.token_ids)]
    if sum(given) != 1:
        raise BadInput("give exactly one of messages, prompt and token_ids")
    if request.messages:
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        return list(codec.encode_chat(messages))
    token_ids = list(codec.encode(request.prompt)) if request.prompt else list(request.token_ids)
    if not token_ids:
        raise BadInput("the prompt has no tokens")
    return token_ids
