"""The routes under `/v1` that OpenAI's clients use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gridnode.control.answer_figures import whole_headers
from gridnode.control.answer_schema import MAX_TOOLS, GenerateRequest
from gridnode.control.answer_stream import AnswerStream, WholeAnswer
from gridnode.control.collected_answer import CollectedAnswer
from gridnode.control.door_errors import describe_error
from gridnode.control.door_request import BodyTooLarge, read_body
from gridnode.control.door_response import json_response
from gridnode.control.guard import ANSWER_MORE
from gridnode.control.interface import NodeControl
from gridnode.control.openai.chat_answer import ChatChunk, ChatCompletion, ChatEncoder, whole_chat
from gridnode.control.openai.chat_request import CHAT_FIELDS, ChatRequest, chat_requests
from gridnode.control.openai.choices import collect_choices, run_choices
from gridnode.control.openai.completion_answer import Completion, CompletionEncoder, whole_completion
from gridnode.control.openai.completion_request import (
    COMPLETION_FIELDS,
    CompletionRequest,
    completion_requests,
)
from gridnode.control.openai.embeddings import (
    EMBEDDING_FIELDS,
    EmbeddingList,
    EmbeddingRequest,
    embed_request,
    embedding_list,
)
from gridnode.control.openai.errors import ApiErrorAnswer, BadField, api_error_response
from gridnode.control.openai.fields import decode_fields
from gridnode.control.openai.models import ModelList, ModelObject, find_model, list_models
from gridnode.control.openai.responses_answer import ResponseObject, whole_response
from gridnode.control.openai.responses_request import RESPONSE_FIELDS, ResponseRequest, response_request
from gridnode.control.openai.responses_stream import ResponseEncoder, ResponseEvent
from gridnode.control.openai.sampling_fields import SamplingFields
from gridnode.control.openai.streaming import ChunkEncoder
from gridnode.control.operation import Endpoint, Operation
from gridnode.control.patience import patience_s
from gridnode.errors import GridError


def make_openai_routes(control: NodeControl) -> list[Operation]:
    """Return the routes of OpenAI's dialect."""
    ask = _Endpoints(control)
    return [
        _operation("GET", "/v1/models", ask.models, "List the models of the swarm", ModelList),
        _operation("GET", "/v1/models/{model:path}", ask.model, "Describe one model", ModelObject),
        _operation(
            "POST",
            "/v1/chat/completions",
            ask.chat,
            "Answer a conversation",
            ChatCompletion,
            body=ChatRequest,
            events=[ChatChunk],
        ),
        _operation(
            "POST",
            "/v1/completions",
            ask.completions,
            "Continue a text",
            Completion,
            body=CompletionRequest,
            events=[Completion],
        ),
        _operation(
            "POST",
            "/v1/responses",
            ask.responses,
            "Answer a conversation of items",
            ResponseObject,
            body=ResponseRequest,
            events=[ResponseEvent],
        ),
        _operation(
            "POST",
            "/v1/embeddings",
            ask.embeddings,
            "Turn texts into vectors",
            EmbeddingList,
            body=EmbeddingRequest,
        ),
    ]


class _Endpoints:
    """What the routes do with a request."""

    def __init__(self, control: NodeControl) -> None:
        self._control = control

    async def models(self, request: Request) -> Response:
        return json_response(list_models(self._control.status()))

    async def model(self, request: Request) -> Response:
        return json_response(find_model(self._control.status(), request.path_params["model"]))

    async def chat(self, request: Request) -> Response:
        wanted = decode_fields(await read_body(request), CHAT_FIELDS)
        asked = chat_requests(wanted, max_wait_s=self._patience_s(wanted))
        max_calls = MAX_TOOLS if wanted.parallel_tool_calls else 1
        encoder = ChatEncoder(num_choices=wanted.n, wants_usage=wanted.wants_usage, max_calls=max_calls)
        if wanted.stream:
            return self._stream(request, asked, encoder)
        return self._whole(request, asked, lambda answers: whole_chat(answers, max_calls=max_calls))

    async def completions(self, request: Request) -> Response:
        wanted = decode_fields(await read_body(request), COMPLETION_FIELDS)
        asked = completion_requests(wanted, max_wait_s=self._patience_s(wanted))
        encoder = CompletionEncoder(choices_per_prompt=wanted.n, wants_usage=wanted.wants_usage)
        if wanted.stream:
            return self._stream(request, asked, encoder)
        return self._whole(request, asked, lambda answers: whole_completion(answers, wanted.n))

    async def responses(self, request: Request) -> Response:
        wanted = decode_fields(await read_body(request), RESPONSE_FIELDS)
        asked = response_request(wanted, max_wait_s=self._patience_s(wanted))
        if wanted.stream:
            return AnswerStream(
                self._control.generate(asked),
                encoder=ResponseEncoder(wanted),
                closing=request.app.state.closing,
            )
        return self._whole(request, [asked], lambda answers: whole_response(wanted, answers[0]))

    async def embeddings(self, request: Request) -> Response:
        wanted = decode_fields(await read_body(request), EMBEDDING_FIELDS)
        asked = embed_request(wanted)

        async def make() -> Response:
            return json_response(embedding_list(await self._control.embed(asked), wanted.encoding_format))

        return WholeAnswer(make, refuse=api_error_response, closing=request.app.state.closing)

    def _patience_s(self, wanted: SamplingFields) -> float:
        return patience_s(self._control.status(), wanted.model, wanted.max_wait_s)

    def _stream(self, request: Request, asked: Sequence[GenerateRequest], encoder: ChunkEncoder) -> Response:
        _count(request, asked)
        choices = run_choices(self._control, asked)
        return AnswerStream(choices, encoder=encoder, closing=request.app.state.closing)

    def _whole(
        self,
        request: Request,
        asked: Sequence[GenerateRequest],
        summarize: Callable[[list[CollectedAnswer]], ChatCompletion | Completion | ResponseObject],
    ) -> Response:
        _count(request, asked)

        async def make() -> Response:
            answers = await collect_choices(run_choices(self._control, asked), len(asked))
            response = json_response(summarize(answers))
            response.headers.update(whole_headers(answers[0].figures))
            return response

        return WholeAnswer(make, refuse=api_error_response, closing=request.app.state.closing)


def _count(request: Request, asked: Sequence[GenerateRequest]) -> None:
    """Count every answer for the key of `request`: each takes a session. One is counted at the door.

    Raises:
        RateLimited: the key may not have so many at once.
    """
    if len(asked) > 1 and (answer_more := getattr(request.state, ANSWER_MORE, None)):
        answer_more(len(asked) - 1)


def _operation(
    method: str,
    path: str,
    endpoint: Endpoint,
    summary: str,
    answer: Any,
    *,
    body: Any = None,
    events: Sequence[Any] = (),
) -> Operation:
    """Return a route whose errors are in OpenAI's shape."""

    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except GridError as exc:
            return api_error_response(
                describe_error(exc),
                param=exc.param if isinstance(exc, BadField) else None,
                status=413 if isinstance(exc, BodyTooLarge) else None,
            )

    return Operation(
        method, path, guarded, summary=summary, answer=answer, body=body, error=ApiErrorAnswer, events=events
    )
