"""The paths of Ollama."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gridnode.control.answer_schema import GenerateRequest
from gridnode.control.answer_stream import WholeAnswer
from gridnode.control.dialect import in_own_words, stream_answer, whole_answer
from gridnode.control.door_errors import ErrorBody
from gridnode.control.door_request import decode_body, read_body
from gridnode.control.door_response import json_response
from gridnode.control.interface import NodeControl
from gridnode.control.ollama.answers import (
    JSON_LINES,
    ChatLine,
    ErrorLine,
    LineEncoder,
    MakeLine,
    PromptLine,
    chat_line,
    nothing_to_say,
    prompt_line,
    refuse,
    whole_line,
)
from gridnode.control.ollama.embedding import (
    EmbedPrompt,
    EmbedTexts,
    PromptVector,
    TextVectors,
    embed_request,
    text_vectors,
)
from gridnode.control.ollama.models import ModelEntries, ShownModel, running, show, tags
from gridnode.control.ollama.names import find_model
from gridnode.control.ollama.requests import AnswerRequest, ModelRequest, OllamaChat, OllamaPrompt
from gridnode.control.ollama.translation import chat_request, prompt_request
from gridnode.control.operation import Endpoint, Operation
from gridnode.control.patience import generate_patiently
from gridnode.errors import ContextFull, ErrorCode

OLLAMA_VERSION = "0.13.0"
"""The version of Ollama whose interface this is. Clients compare it: VS Code wants 0.6.4 or later."""


def make_ollama_routes(control: NodeControl) -> list[Operation]:
    """Return everything that the door says to clients of Ollama."""
    ask = _Endpoints(control)
    lines = {"stream": JSON_LINES}
    return [
        _operation("GET", "/api/version", ask.version, "Tell the version", dict[str, str]),
        _operation("GET", "/api/tags", ask.tags, "List the models of the swarm", ModelEntries),
        _operation("GET", "/api/ps", ask.running, "List the models that answer at once", ModelEntries),
        _operation("POST", "/api/show", ask.show, "Describe one model", ShownModel, body=ModelRequest),
        _operation("POST", "/api/pull", ask.pull, "Find a model", dict[str, str], body=ModelRequest),
        _operation(
            "POST", "/api/chat", ask.chat, "Answer a conversation", ChatLine, body=OllamaChat, **lines
        ),
        _operation(
            "POST", "/api/generate", ask.generate, "Answer a prompt", PromptLine, body=OllamaPrompt, **lines
        ),
        _operation("POST", "/api/embed", ask.embed, "Turn texts into vectors", TextVectors, body=EmbedTexts),
        _operation(
            "POST",
            "/api/embeddings",
            ask.embed_prompt,
            "Turn a text into a vector",
            PromptVector,
            body=EmbedPrompt,
        ),
        *(
            _operation(method, path, _managed_elsewhere, "Refuse to manage models", ErrorLine)
            for method, path in (
                ("POST", "/api/create"),
                ("POST", "/api/copy"),
                ("POST", "/api/push"),
                ("DELETE", "/api/delete"),
            )
        ),
    ]


class _Endpoints:
    """What the routes do with a request."""

    def __init__(self, control: NodeControl) -> None:
        self._control = control

    async def version(self, request: Request) -> Response:
        return json_response({"version": OLLAMA_VERSION})

    async def tags(self, request: Request) -> Response:
        return json_response(tags(self._control.status(), now=datetime.now(UTC)))

    async def running(self, request: Request) -> Response:
        return json_response(running(self._control.status()))

    async def show(self, request: Request) -> Response:
        wanted = decode_body(await read_body(request), ModelRequest)
        status = self._control.status()
        model = find_model(status.models, wanted.model or wanted.name)
        return json_response(show(model, status, now=datetime.now(UTC)))

    async def pull(self, request: Request) -> Response:
        wanted = decode_body(await read_body(request), ModelRequest)
        find_model(self._control.status().models, wanted.model or wanted.name)
        return json_response({"status": "success"})  # one line of JSON, for those who want a stream too

    async def chat(self, request: Request) -> Response:
        wanted = decode_body(await read_body(request), OllamaChat)
        asked = chat_request(wanted) if wanted.messages else None
        return await self._answer(request, wanted, asked, chat_line)

    async def generate(self, request: Request) -> Response:
        wanted = decode_body(await read_body(request), OllamaPrompt)
        asked = prompt_request(wanted) if wanted.prompt else None
        return await self._answer(request, wanted, asked, prompt_line)

    async def embed(self, request: Request) -> Response:
        wanted = decode_body(await read_body(request), EmbedTexts)
        texts = (wanted.input,) if isinstance(wanted.input, str) else wanted.input
        asked = embed_request(wanted.model, texts)
        begin = time.perf_counter()

        async def make() -> Response:
            embedded = await self._control.embed(asked)
            return json_response(text_vectors(wanted, embedded, duration_s=time.perf_counter() - begin))

        return WholeAnswer(make, refuse=refuse, closing=request.app.state.closing)

    async def embed_prompt(self, request: Request) -> Response:
        wanted = decode_body(await read_body(request), EmbedPrompt)
        asked = embed_request(wanted.model, (wanted.prompt,))

        async def make() -> Response:
            embedded = await self._control.embed(asked)
            return json_response(PromptVector(embedding=embedded.vectors[0]))

        return WholeAnswer(make, refuse=refuse, closing=request.app.state.closing)

    async def _answer(
        self, request: Request, wanted: AnswerRequest, asked: GenerateRequest | None, line: MakeLine
    ) -> Response:
        if asked is None:
            find_model(self._control.status().models, wanted.model)
            reason = "unload" if wanted.keep_alive in (0, "0", "0s") else "load"
            return json_response(nothing_to_say(wanted.model, line, reason=reason))
        if wanted.options and wanted.options.num_ctx:
            asked = await self._within_context(asked, wanted.options.num_ctx)
        events = generate_patiently(self._control, asked)
        if wanted.stream is False:
            return whole_answer(request, events, partial(whole_line, wanted.model, line), refuse)
        return stream_answer(request, events, LineEncoder(wanted.model, line))

    async def _within_context(self, asked: GenerateRequest, context_tokens: int) -> GenerateRequest:
        """Return `asked`, so that prompt and answer have `context_tokens` at most; prompts are never cut."""
        prompt_tokens = len(await self._control.tokenize(asked))
        if prompt_tokens >= context_tokens:
            raise ContextFull(prompt_tokens + 1, context_tokens)
        return replace(asked, max_tokens=min(asked.max_tokens, context_tokens - prompt_tokens))


async def _managed_elsewhere(request: Request) -> Response:
    text = (
        "the models of a swarm are those that its nodes serve: 'gridnode up --model NAME' adds one, "
        "and it goes when the last node that serves it stops"
    )
    return refuse(ErrorBody(code=ErrorCode.BAD_INPUT, message=text), status=501)


def _operation(
    method: str,
    path: str,
    endpoint: Endpoint,
    summary: str,
    answer: Any,
    *,
    body: Any = None,
    stream: str = "",
) -> Operation:
    """Return a route whose errors are in Ollama's shape; the lines of a stream are like the answer."""
    return Operation(
        method,
        path,
        in_own_words(endpoint, refuse),
        summary=f"{summary} (Ollama)",
        answer=answer,
        body=body,
        error=ErrorLine,
        events=[answer] if stream else (),
        stream=stream,
    )
