"""Answers of `POST /v1/responses`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Literal

import msgspec

from gridnode.control.answer_figures import AnswerFigures
from gridnode.control.answer_schema import ChosenLogprob, Finished, ToolCall
from gridnode.control.collected_answer import CollectedAnswer
from gridnode.control.openai.logprobs import TokenLogprob, token_logprobs
from gridnode.control.openai.responses_request import (
    FunctionTool,
    NamedTool,
    ResponseRequest,
    TextFormat,
)

Status = Literal["in_progress", "completed", "incomplete", "failed"]


class OutputText(msgspec.Struct, frozen=True, kw_only=True):
    """What the model said."""

    text: str
    annotations: list[str] = []
    logprobs: list[TokenLogprob] = []
    type: Literal["output_text"] = "output_text"


class OutputMessage(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="message"):
    """A turn of the assistant."""

    id: str
    content: list[OutputText]
    status: Literal["in_progress", "completed", "incomplete"]
    role: Literal["assistant"] = "assistant"


class OutputCall(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="function_call"):
    """A function that the model wants to have called."""

    id: str
    call_id: str
    name: str
    arguments: str
    """A JSON object as text."""

    status: Literal["in_progress", "completed"] = "completed"


class CachedTokens(msgspec.Struct, frozen=True):
    """Always none: every session computes its own prompt."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class ReasoningTokens(msgspec.Struct, frozen=True):
    """Not told apart from other tokens."""

    reasoning_tokens: int = 0


class ResponseUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of the conversation and its answer."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: CachedTokens = CachedTokens()
    output_tokens_details: ReasoningTokens = ReasoningTokens()


class ResponseError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a response failed after it began."""

    code: str
    message: str


class IncompleteDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Why a response is not complete."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class ResponseText(msgspec.Struct, frozen=True, kw_only=True):
    """How the text looks."""

    format: TextFormat


class ResponseObject(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/responses`, and the state of a stream."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Status
    model: str
    output: list[OutputMessage | OutputCall]
    instructions: str | None
    max_output_tokens: int
    metadata: dict[str, str]
    parallel_tool_calls: bool
    temperature: float
    text: ResponseText
    tool_choice: str | NamedTool
    tools: list[FunctionTool]
    top_p: float
    usage: ResponseUsage | None = None
    gridnode: AnswerFigures | None = None
    """Route, times and bytes, once the answer is complete."""

    completed_at: int | None = None
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    previous_response_id: None = None
    store: Literal[False] = False
    truncation: Literal["disabled"] = "disabled"


def begin_response(wanted: ResponseRequest, model: str) -> ResponseObject:
    """Return a response that has no output yet."""
    return ResponseObject(
        id=new_id("resp"),
        created_at=int(time.time()),
        status="in_progress",
        model=model,
        output=[],
        instructions=wanted.instructions,
        max_output_tokens=wanted.max_output_tokens,
        metadata=wanted.metadata,
        parallel_tool_calls=wanted.parallel_tool_calls,
        temperature=wanted.temperature,
        text=ResponseText(format=wanted.text_format),
        tool_choice=wanted.tool_choice,
        tools=list(wanted.tools),
        top_p=wanted.top_p,
    )


def complete_response(
    begun: ResponseObject,
    output: Sequence[OutputMessage | OutputCall],
    finished: Finished,
    figures: AnswerFigures,
) -> ResponseObject:
    """Return the complete response; one that ran into its limit of tokens is `incomplete`."""
    is_cut = finished.reason == "length"
    return msgspec.structs.replace(
        begun,
        status="incomplete" if is_cut else "completed",
        incomplete_details=IncompleteDetails() if is_cut else None,
        completed_at=None if is_cut else int(time.time()),
        output=list(output),
        usage=ResponseUsage(
            input_tokens=finished.prompt_tokens,
            output_tokens=finished.completion_tokens,
            total_tokens=finished.prompt_tokens + finished.completion_tokens,
        ),
        gridnode=figures,
    )


def whole_response(wanted: ResponseRequest, answer: CollectedAnswer) -> ResponseObject:
    """Return the response to a request that wants no stream."""
    calls = answer.finished.tool_calls[: wanted.max_calls]
    output: list[OutputMessage | OutputCall] = [output_call(call) for call in calls]
    if answer.text or not output:
        said = output_message(new_id("msg"), answer.text, answer.logprobs, answer.finished)
        output.insert(0, said)
    begun = begin_response(wanted, answer.started.model)
    return complete_response(begun, output, answer.finished, answer.figures)


def output_message(
    item_id: str, text: str, logprobs: Sequence[ChosenLogprob], finished: Finished
) -> OutputMessage:
    """Return the complete turn of the assistant."""
    status: Literal["incomplete", "completed"] = "incomplete" if finished.reason == "length" else "completed"
    return OutputMessage(id=item_id, content=[output_text(text, logprobs)], status=status)


def output_text(text: str, logprobs: Sequence[ChosenLogprob]) -> OutputText:
    """Return what the model said."""
    return OutputText(text=text, logprobs=token_logprobs(logprobs, of_half_character=[]))


def output_call(call: ToolCall) -> OutputCall:
    """Return what the model wants to have called."""
    return OutputCall(id=new_id("fc"), call_id=call.id, name=call.name, arguments=call.arguments)


def new_id(kind: str) -> str:
    """Return an id like those of OpenAI."""
    return f"{kind}_{secrets.token_hex(16)}"
