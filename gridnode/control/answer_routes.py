"""Routes on which the swarm computes, in our own words: answers, vectors, scores."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from gridnode.control.answer_schema import Embedded, EmbedRequest, GenerateEvent, GenerateRequest
from gridnode.control.answer_stream import AnswerStream, WholeAnswer
from gridnode.control.door_request import decode_request, read_body
from gridnode.control.door_response import error_response, json_response
from gridnode.control.interface import NodeControl
from gridnode.control.operation import Operation
from gridnode.control.score_schema import Scored, ScoreRequest
from gridnode.control.server_sent import EventEncoder


def make_answer_routes(control: NodeControl) -> list[BaseRoute]:
    """Return the routes."""

    async def run(request: Request) -> Response:
        wanted = decode_request(await read_body(request), GenerateRequest)
        return AnswerStream(
            control.generate(wanted), encoder=EventEncoder(), closing=request.app.state.closing
        )

    async def embed(request: Request) -> Response:
        wanted = decode_request(await read_body(request), EmbedRequest)
        return _whole(request, lambda: control.embed(wanted))

    async def score(request: Request) -> Response:
        wanted = decode_request(await read_body(request), ScoreRequest)
        return _whole(request, lambda: control.score(wanted))

    return [
        Operation(
            "POST",
            "/api/v1/run",
            run,
            summary="Answer a prompt or a conversation as events",
            body=GenerateRequest,
            events=get_args(GenerateEvent),
        ),
        Operation(
            "POST",
            "/api/v1/embed",
            embed,
            summary="Turn texts into vectors",
            body=EmbedRequest,
            answer=Embedded,
        ),
        Operation(
            "POST",
            "/api/v1/score",
            score,
            summary="Tell how probable texts are, or answers to them",
            body=ScoreRequest,
            answer=Scored,
        ),
    ]


def _whole(request: Request, work: Callable[[], Awaitable[object]]) -> Response:
    """Return the answer to work that is given up when its reader leaves."""

    async def make() -> Response:
        return json_response(await work())

    return WholeAnswer(make, refuse=error_response, closing=request.app.state.closing)
