"""The paths of Anthropic."""

from __future__ import annotations

from functools import partial
from typing import get_args

from starlette.requests import Request
from starlette.responses import Response

from gridnode.control.anthropic.answers import Message, TokenCount, whole_message
from gridnode.control.anthropic.errors import ApiErrorAnswer, refuse
from gridnode.control.anthropic.requests import MessagesRequest, PromptRequest
from gridnode.control.anthropic.streaming import MessageEncoder, StreamEvent
from gridnode.control.anthropic.translation import max_calls, messages_request, prompt_request
from gridnode.control.dialect import in_own_words, stream_answer, whole_answer
from gridnode.control.door_request import decode_body, read_body
from gridnode.control.door_response import json_response
from gridnode.control.interface import NodeControl
from gridnode.control.operation import Operation
from gridnode.control.patience import generate_patiently


def make_anthropic_routes(control: NodeControl) -> list[Operation]:
    """Return everything that the door says to clients of Anthropic."""

    async def messages(request: Request) -> Response:
        wanted = decode_body(await read_body(request), MessagesRequest)
        asked = messages_request(wanted)
        events = generate_patiently(control, asked)
        if wanted.stream:
            return stream_answer(request, events, MessageEncoder(asked, max_calls=max_calls(wanted)))
        return whole_answer(
            request, events, partial(whole_message, asked, max_calls=max_calls(wanted)), refuse
        )

    async def count_tokens(request: Request) -> Response:
        asked = prompt_request(decode_body(await read_body(request), PromptRequest))
        return json_response(TokenCount(input_tokens=len(await control.tokenize(asked))))

    return [
        Operation(
            "POST",
            "/v1/messages",
            in_own_words(messages, refuse),
            summary="Answer a conversation (Anthropic)",
            body=MessagesRequest,
            answer=Message,
            events=get_args(StreamEvent),
            error=ApiErrorAnswer,
        ),
        Operation(
            "POST",
            "/v1/messages/count_tokens",
            in_own_words(count_tokens, refuse),
            summary="Count the tokens of a conversation (Anthropic)",
            body=PromptRequest,
            answer=TokenCount,
            error=ApiErrorAnswer,
        ),
    ]
