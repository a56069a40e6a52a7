"""From a request to a running session: which model, which tokens, which route."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable

from gridnode.control.schema import Delta, Finished, GenerateRequest, Started
from gridnode.core.addresses import Address
from gridnode.core.ids import ModelId, PeerId
from gridnode.core.routing import Route
from gridnode.engine.text import TextCodec
from gridnode.errors import BadInput, ContextFull, ErrorCode, ModelUnknown, PeerRefused
from gridnode.node.generation import Generation
from gridnode.node.links import Links
from gridnode.node.remote_session import RemoteSession, SessionPlan
from gridnode.node.status import SwarmView

logger = logging.getLogger("gridnode.node.answering")

# A route is planned from announcements that may be seconds old; a refusal tells what changed.
MAX_ROUTE_ATTEMPTS = 4

_TRY_ANOTHER_ROUTE = frozenset(
    {
        ErrorCode.CACHE_FULL,
        ErrorCode.ENGINE_LOST,
        ErrorCode.NO_CAPACITY,
        ErrorCode.PEER_LOST,
        ErrorCode.WRONG_MODEL,
        ErrorCode.WRONG_SPAN,
    }
)


class Answering:
    """Answers requests with sessions through the swarm.

    Args:
        view: Returns the swarm as it is now.
        codec: Returns the text side of a model; raises a `GridError` if this node has none.
    """

    def __init__(
        self, links: Links, *, view: Callable[[], SwarmView], codec: Callable[[ModelId], TextCodec]
    ) -> None:
        self._links = links
        self._view = view
        self._codec = codec

    async def run(self, request: GenerateRequest) -> AsyncGenerator[Started | Delta | Finished, None]:
        """Yield the events of the answer to `request`; see `NodeControl.generate`."""
        started_at = asyncio.get_running_loop().time()
        model, num_blocks = self._resolve(request.model)
        codec = self._codec(model)
        prompt_ids = prompt_tokens(request, codec)
        session, max_new_tokens = await self._open(model, num_blocks, request, len(prompt_ids))
        async with contextlib.aclosing(session):
            generation = Generation(
                session=session,
                request=request,
                codec=codec,
                prompt_ids=prompt_ids,
                max_new_tokens=max_new_tokens,
                hops=self._view().hops(session.plan.route),
                started_at=started_at,
            )
            async with contextlib.aclosing(generation.run()) as events:
                async for event in events:
                    yield event

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

    async def _open(
        self, model: ModelId, num_blocks: int, request: GenerateRequest, num_prompt: int
    ) -> tuple[RemoteSession, int]:
        """Return an open session with the new tokens it has room for; pass by hops that refuse."""
        avoid: frozenset[PeerId] = frozenset()
        for attempt in range(1, MAX_ROUTE_ATTEMPTS + 1):
            view = self._view()
            # The cheapest question first: is there a route at all, and how long may a session on it be?
            context = view.context_tokens(view.route(model, num_blocks, cache_tokens=1, avoid=avoid))
            if num_prompt >= context:
                raise ContextFull(num_prompt + 1, context)
            max_new_tokens = min(request.max_tokens, context - num_prompt)
            # The last token is chosen and never run, so that it needs no place in the cache.
            max_tokens = num_prompt + max_new_tokens - 1
            route = view.route(model, num_blocks, cache_tokens=max_tokens, avoid=avoid)
            plan = SessionPlan(model=model, route=route, max_tokens=max_tokens, sampling=request.sampling)
            session = RemoteSession(self._links, plan, addresses=self._addresses(view, route))
            try:
                return await session.__aenter__(), max_new_tokens
            except PeerRefused as exc:
                if exc.reason not in _TRY_ANOTHER_ROUTE or attempt == MAX_ROUTE_ATTEMPTS:
                    raise
                logger.info("route %s: %s; trying another", route, exc)
                avoid |= {PeerId(exc.peer_id)}
        raise AssertionError("the last attempt returns or raises")

    @staticmethod
    def _addresses(view: SwarmView, route: Route) -> dict[PeerId, tuple[Address, ...]]:
        return {hop.peer_id: view.swarm.peers[hop.peer_id].announcement.addresses for hop in route.hops}


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
