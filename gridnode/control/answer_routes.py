"""Routes on which the swarm computes, in our own words: answers, vectors, scores."""

from __future__ import annotations

from typing import get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from gridnode.control.answer_schema import Embedded, EmbedRequest, GenerateEvent, GenerateRequest
from gridnode.control.answer_stream import AnswerStream
from gridnode.control.door_request import decode_request, read_body
from gridnode.control.door_response import json_response
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
        return json_response(await control.embed(wanted))

    async def score(request: Request) -> Response:
        wanted = decode_request(await read_body(request), ScoreRequest)
        return json_response(await control.score(wanted))

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
