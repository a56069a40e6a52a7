"""The swarm for asynchronous programs: no torch, and as quick to import as a client of HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from gridnode.config import DEFAULT_API
from gridnode.control.answer_schema import (
    AnswerEvent,
    ChatMessage,
    Delta,
    Embedded,
    EmbedRequest,
    GenerateRequest,
)
from gridnode.control.client import ControlClient
from gridnode.control.score_schema import ScoreRequest, TextScore
from gridnode.control.status_schema import NodeStatus
from gridnode.core.addresses import parse_address
from gridnode.core.route_wishes import ANYWHERE, RouteWishes
from gridnode.core.sampling import SamplingParams
from gridnode.errors import BadInput

Prompt = str | Sequence[Mapping[str, str] | ChatMessage]
Routing = RouteWishes | Mapping[str, Any]
"""Which nodes may compute; a mapping has the fields of `RouteWishes`."""

T = TypeVar("T")


@contextlib.asynccontextmanager
async def connect(api: str = str(DEFAULT_API), *, key: str | None = None) -> AsyncIterator[Swarm]:
    """Open the swarm through the node whose door is at `api`, by default the one on this computer.

    Args:
        key: Key of the door; None takes that of the environment, and a node on this computer needs none.

    Raises:
        BadInput: `api` is no address.
        NotRunning: no node answers; raised by the first call.
    """
    try:
        address = parse_address(api, default_port=DEFAULT_API.port)
    except ValueError as exc:
        raise BadInput(str(exc)) from exc
    async with ControlClient(address, key=key) as client:
        yield Swarm(client)


class Swarm:
    """A swarm, seen through one node. Make one with `connect`."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client

    async def generate(
        self, prompt: Prompt, *, model: str = "", max_tokens: int = 512, **options: Any
    ) -> AsyncGenerator[str, None]:
        """Yield the answer to `prompt` piece by piece, as it comes. Closing the generator stops it.

        Args:
            prompt: A question, or a conversation of messages with `role` and `content`.
            model: Name, or start of the manifest hash; empty for the only model of the swarm.
            options: As `events`.

        Raises:
            GridError: as `events`.
        """
        events = self.events(prompt, model=model, max_tokens=max_tokens, **options)
        async with contextlib.aclosing(events):
            async for event in events:
                if isinstance(event, Delta) and event.text:
                    yield event.text

    async def events(
        self, prompt: Prompt, *, model: str = "", max_tokens: int = 512, **options: Any
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Yield everything that happens to the answer: route, tokens, reroutes, and figures at its end.

        Args:
            options: Fields of `SamplingParams` (`temperature`, `top_p`, `seed`, ...) and of
                `GenerateRequest` (`stop`, `json_schema`, `top_logprobs`, ...).

        Raises:
            BadInput: an option does not exist or has a wrong value.
            NotRunning: no node answers.
            GridError: what ended the answer.
        """
        request = _request(prompt, model=model, max_tokens=max_tokens, options=options)
        async with contextlib.aclosing(self._client.run(request)) as events:
            async for event in events:
                yield event

    async def embed(self, *texts: str, model: str = "", routing: Routing = ANYWHERE) -> Embedded:
        """Return a vector for each of `texts`.

        Raises:
            BadInput: an argument has a wrong value.
            NotRunning: no node answers.
            GridError: what the swarm cannot do.
        """
        return await self._client.embed(_made(EmbedRequest, model=model, texts=texts, routing=routing))

    async def score(
        self,
        *texts: str,
        answers: Sequence[str] = (),
        raw: bool = False,
        model: str = "",
        routing: Routing = ANYWHERE,
    ) -> tuple[TextScore, ...]:
        """Return how probable each of `texts` is, or each of `answers` to it.

        Args:
            raw: Put the answers right behind the text, instead of asking it by the chat template.

        Raises:
            BadInput: an argument has a wrong value.
            NotRunning: no node answers.
            GridError: what the swarm cannot do.
        """
        request = _made(ScoreRequest, texts=texts, answers=answers, raw=raw, model=model, routing=routing)
        return (await self._client.score(request)).scores

    async def status(self) -> NodeStatus:
        """Return what the node knows of the swarm: peers, models, routes.

        Raises:
            NotRunning: no node answers.
        """
        return await self._client.status()


def _request(prompt: Prompt, *, model: str, max_tokens: int, options: Mapping[str, Any]) -> GenerateRequest:
    sampling_names = set(SamplingParams.__dataclass_fields__)
    sampling = {name: value for name, value in options.items() if name in sampling_names}
    rest = {name: value for name, value in options.items() if name not in sampling_names}
    if unknown := sorted(set(rest) - set(GenerateRequest.__dataclass_fields__)):
        raise BadInput(f"there is no option {unknown[0]!r}")
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    fields = {"model": model, "max_tokens": max_tokens, "messages": messages, "sampling": sampling, **rest}
    return _made(GenerateRequest, **fields)


def _made(kind: type[T], **fields: Any) -> T:
    try:
        return msgspec.convert(msgspec.to_builtins(fields), kind)
    except (msgspec.ValidationError, ValueError, TypeError) as exc:
        raise BadInput(f"the question cannot be asked: {exc}") from exc
