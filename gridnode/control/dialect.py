"""What the dialects of the door share: errors in their own words, an answer as a stream or as a whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from gridnode.control.answer_figures import whole_headers
from gridnode.control.answer_schema import AnswerEvent
from gridnode.control.answer_stream import AnswerStream, StreamEncoder, WholeAnswer
from gridnode.control.collected_answer import CollectedAnswer, collect_answer
from gridnode.control.door_errors import ErrorBody, describe_error
from gridnode.control.door_request import BodyTooLarge
from gridnode.control.door_response import json_response
from gridnode.control.operation import Endpoint
from gridnode.control.status_schema import ModelStatus
from gridnode.errors import GridError

# Shorter starts of manifest hashes are more likely to be something else.
MIN_MANIFEST_START = 6


class Refuse(Protocol):
    """Makes a dialect's answer for an error; `status` overrides the table of the door."""

    def __call__(self, body: ErrorBody, *, status: int | None = None) -> Response: ...


def in_own_words(endpoint: Endpoint, refuse: Refuse) -> Endpoint:
    """Return `endpoint` with its errors told by `refuse`."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except GridError as exc:
            return refuse(describe_error(exc), status=413 if isinstance(exc, BodyTooLarge) else None)

    return answer


def names(model: ModelStatus, name: str) -> bool:
    """Return whether `name` stands for `model`: as the node resolves it; no name stands for any."""
    return (
        not name
        or name in (model.name, model.name.rsplit("/", 1)[-1])
        or (len(name) >= MIN_MANIFEST_START and model.manifest.startswith(name))
    )


def stream_answer(
    request: Request, events: AsyncGenerator[AnswerEvent, None], encoder: StreamEncoder[AnswerEvent]
) -> Response:
    """Return an answer that is sent as it comes."""
    return AnswerStream(events, encoder=encoder, closing=request.app.state.closing)


def whole_answer(
    request: Request,
    events: AsyncGenerator[AnswerEvent, None],
    describe: Callable[[CollectedAnswer], Any],
    refuse: Refuse,
) -> Response:
    """Return an answer that is sent once it is complete, as the record that `describe` makes of it."""

    async def make() -> Response:
        answer = await collect_answer(events)
        response = json_response(describe(answer))
        response.headers.update(whole_headers(answer.figures))
        return response

    return WholeAnswer(make, refuse=refuse, closing=request.app.state.closing)
