"""The paths of Petals' chat."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, WebSocketRoute

from gridnode.control.answer_schema import GenerateRequest
from gridnode.control.collected_answer import CollectedAnswer
from gridnode.control.dialect import in_own_words, whole_answer
from gridnode.control.door_request import decode_fields
from gridnode.control.interface import NodeControl
from gridnode.control.operation import Operation
from gridnode.control.patience import generate_patiently
from gridnode.control.petals.errors import refuse
from gridnode.control.petals.form import read_values
from gridnode.control.petals.requests import FormAnswer, FormRequest, Trouble, new_seed
from gridnode.control.petals.sockets import PetalsSockets
from gridnode.errors import BadInput, ContextFull


def make_petals_routes(control: NodeControl) -> list[BaseRoute]:
    """Return everything that the door says to clients of Petals' chat."""

    async def generate(request: Request) -> Response:
        wanted = decode_fields(await read_values(request), FormRequest, strict=False)
        events = generate_patiently(control, await _asked(control, wanted))
        return whole_answer(request, events, _form_answer, refuse)

    return [
        Operation(
            "POST",
            "/api/v1/generate",
            in_own_words(generate, refuse),
            summary="Continue a text (Petals); values in the query, a form or JSON",
            body=FormRequest,
            answer=FormAnswer,
            error=Trouble,
        ),
        WebSocketRoute("/api/v2/generate", PetalsSockets(control).serve),
    ]


async def _asked(control: NodeControl, wanted: FormRequest) -> GenerateRequest:
    if not wanted.inputs:
        raise BadInput("give 'inputs', the text to continue")
    if (wanted.max_length is None) == (wanted.max_new_tokens is None):
        raise BadInput("give either 'max_new_tokens', or 'max_length' for inputs and answer together")
    asked = GenerateRequest(
        model=wanted.model,
        prompt=wanted.inputs,
        max_tokens=wanted.max_new_tokens or 1,
        sampling=wanted.sampling(seed=new_seed()),
    )
    if wanted.max_length is None:
        return asked
    prompt_tokens = len(await control.tokenize(asked))
    if prompt_tokens >= wanted.max_length:
        raise ContextFull(prompt_tokens + 1, wanted.max_length)
    return replace(asked, max_tokens=wanted.max_length - prompt_tokens)


def _form_answer(answer: CollectedAnswer) -> FormAnswer:
    return FormAnswer(outputs=answer.text)
