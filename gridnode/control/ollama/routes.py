"""The paths of Ollama."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gridnode.control.dialect import Endpoint, in_own_words, stream_answer, whole_answer
from gridnode.control.door_errors import ErrorBody
from gridnode.control.door_request import decode_body, read_body
from gridnode.control.door_response import json_response
from gridnode.control.interface import NodeControl
from gridnode.control.ollama.answers import (
    LineEncoder,
    Piece,
    chat_piece,
    nothing_to_say,
    prompt_piece,
    refuse,
    whole_record,
)
from gridnode.control.ollama.models import running, show, tags
from gridnode.control.ollama.names import find_model
from gridnode.control.ollama.requests import AnswerRequest, ChatRequest, ModelRequest, PromptRequest
from gridnode.control.ollama.translation import chat_request, prompt_request
from gridnode.control.schema import GenerateRequest
from gridnode.errors import ContextFull, ErrorCode

OLLAMA_VERSION = "0.13.0"
"""The version of Ollama whose interface this is. Clients compare it: VS Code wants 0.6.4 or later."""


def make_ollama_routes(control: NodeControl) -> list[BaseRoute]:
    """Return everything that the door says to clients of Ollama."""

    async def version(request: Request) -> Response:
        return json_response({"version": OLLAMA_VERSION})

    async def list_models(request: Request) -> Response:
        return json_response(tags(control.status(), now=datetime.now(UTC)))

    async def list_running(request: Request) -> Response:
        return json_response(running(control.status()))

    async def show_model(request: Request) -> Response:
        wanted = decode_body(await read_body(request), ModelRequest)
        status = control.status()
        model = find_model(status.models, wanted.model or wanted.name)
        return json_response(show(model, status, now=datetime.now(UTC)))

    async def pull(request: Request) -> Response:
        wanted = decode_body(await read_body(request), ModelRequest)
        find_model(control.status().models, wanted.model or wanted.name)
        return json_response({"status": "success"})  # one line of JSON, for those who want a stream too

    async def chat(request: Request) -> Response:
        wanted = decode_body(await read_body(request), ChatRequest)
        asked = chat_request(wanted) if wanted.messages else None
        return await _answer(control, request, wanted, asked, chat_piece)

    async def generate(request: Request) -> Response:
        wanted = decode_body(await read_body(request), PromptRequest)
        asked = prompt_request(wanted) if wanted.prompt else None
        return await _answer(control, request, wanted, asked, prompt_piece)

    endpoints: list[tuple[str, str, Endpoint]] = [
        ("GET", "/api/version", version),
        ("GET", "/api/tags", list_models),
        ("GET", "/api/ps", list_running),
        ("POST", "/api/show", show_model),
        ("POST", "/api/pull", pull),
        ("POST", "/api/chat", chat),
        ("POST", "/api/generate", generate),
        ("POST", "/api/create", _managed_elsewhere),
        ("POST", "/api/copy", _managed_elsewhere),
        ("POST", "/api/push", _managed_elsewhere),
        ("DELETE", "/api/delete", _managed_elsewhere),
    ]
    return [
        Route(path, in_own_words(endpoint, refuse), methods=[method]) for method, path, endpoint in endpoints
    ]


async def _answer(
    control: NodeControl,
    request: Request,
    wanted: AnswerRequest,
    asked: GenerateRequest | None,
    piece: Piece,
) -> Response:
    if asked is None:
        find_model(control.status().models, wanted.model)
        reason = "unload" if wanted.keep_alive in (0, "0", "0s") else "load"
        return json_response(nothing_to_say(wanted.model, piece, reason=reason))
    if wanted.options and wanted.options.num_ctx:
        asked = await _within_context(control, asked, wanted.options.num_ctx)
    events = control.generate(asked)
    if wanted.stream is False:
        return whole_answer(request, events, partial(whole_record, wanted.model, piece), refuse)
    return stream_answer(request, events, LineEncoder(wanted.model, piece))


async def _within_context(
    control: NodeControl, asked: GenerateRequest, context_tokens: int
) -> GenerateRequest:
    """Return `asked`, cut so that prompt and answer have `context_tokens` at most; prompts are never cut."""
    prompt_tokens = len(await control.tokenize(asked))
    if prompt_tokens >= context_tokens:
        raise ContextFull(prompt_tokens + 1, context_tokens)
    return replace(asked, max_tokens=min(asked.max_tokens, context_tokens - prompt_tokens))


async def _managed_elsewhere(request: Request) -> Response:
    text = (
        "the models of a swarm are those that its nodes serve: 'gridnode up --model NAME' adds one, "
        "and it goes when the last node that serves it stops"
    )
    return refuse(ErrorBody(code=ErrorCode.BAD_INPUT, message=text), status=501)
