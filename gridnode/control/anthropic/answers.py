"""Answers in Anthropic's words: whole messages, and what they say of their end."""

from __future__ import annotations

import secrets
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from gridnode.control.answer_figures import AnswerFigures
from gridnode.control.answer_schema import Finished, GenerateRequest, ToolCall
from gridnode.control.collected_answer import CollectedAnswer

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"]


class TextBlock(msgspec.Struct, frozen=True, kw_only=True, tag="text"):
    """What the model said."""

    text: str


class ToolUseBlock(msgspec.Struct, frozen=True, kw_only=True, tag="tool_use"):
    """A function that the model wants to have called."""

    id: str
    name: str
    input: dict[str, Any]


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of prompt and answer. Nothing is cached from one request to the next."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/messages`."""

    id: str
    model: str
    content: tuple[TextBlock | ToolUseBlock, ...]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: Usage
    gridnode: AnswerFigures | UnsetType = UNSET
    """Route, times and bytes; at the beginning of a stream they are not known."""

    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"


class TokenCount(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/messages/count_tokens`."""

    input_tokens: int


def new_message_id() -> str:
    """Return the name of a new answer."""
    return f"msg_{secrets.token_hex(12)}"


def whole_message(asked: GenerateRequest, answer: CollectedAnswer, *, max_calls: int | None) -> Message:
    """Return a complete answer."""
    said = (TextBlock(text=answer.text),) if answer.text else ()
    finished = answer.finished
    return Message(
        id=new_message_id(),
        model=asked.model,
        content=(*said, *(tool_use(call) for call in finished.tool_calls[:max_calls])),
        stop_reason=stop_reason(asked, finished),
        stop_sequence=finished.stop_text or None,
        usage=usage_of(finished),
        gridnode=answer.figures,
    )


def tool_use(call: ToolCall) -> ToolUseBlock:
    """Return a call as a block."""
    return ToolUseBlock(id=call.id, name=call.name, input=msgspec.json.decode(call.arguments))


def stop_reason(asked: GenerateRequest, finished: Finished) -> StopReason:
    """Return why an answer ended."""
    if finished.reason == "tool_calls":
        return "tool_use"
    if finished.stop_text:
        return "stop_sequence"
    if finished.reason == "stop":
        return "end_turn"
    # The session ended before the answer had what was allowed.
    return "max_tokens" if finished.completion_tokens >= asked.max_tokens else "model_context_window_exceeded"


def usage_of(finished: Finished) -> Usage:
    """Return the tokens of a complete answer."""
    return Usage(input_tokens=finished.prompt_tokens, output_tokens=finished.completion_tokens)
