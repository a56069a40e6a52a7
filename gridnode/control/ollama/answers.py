"""Answers in Ollama's words: lines of JSON, or one record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from gridnode.control.answer_figures import AnswerFigures, answer_figures, start_headers
from gridnode.control.answer_schema import (
    AnswerEvent,
    ChosenLogprob,
    Delta,
    Finished,
    Logprob,
    Started,
    ToolCall,
)
from gridnode.control.collected_answer import CollectedAnswer
from gridnode.control.door_errors import ErrorBody
from gridnode.control.door_response import error_response

JSON_LINES = "application/x-ndjson"


class CalledFunction(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model wants to have called."""

    name: str
    arguments: dict[str, Any]


class SaidCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call."""

    id: str
    function: CalledFunction


class SaidMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The turn of the assistant, or a piece of it."""

    content: str
    tool_calls: tuple[SaidCall, ...] | UnsetType = UNSET
    role: Literal["assistant"] = "assistant"


class TopLogprob(msgspec.Struct, frozen=True, kw_only=True):
    """How probable a token was."""

    token: str
    logprob: float
    bytes: tuple[int, ...]


class TokenLogprob(TopLogprob, frozen=True, kw_only=True):
    """How probable the chosen token was, and which were the most probable."""

    top_logprobs: tuple[TopLogprob, ...]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a stream, or the whole answer. Durations are nanoseconds."""

    model: str
    """The name by which the client asked."""

    created_at: str
    done: bool
    logprobs: tuple[TokenLogprob, ...] | UnsetType = UNSET
    done_reason: Literal["stop", "length", "load", "unload"] | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    gridnode: AnswerFigures | UnsetType = UNSET
    """Route, times and bytes; in the last line."""


class ChatLine(Line, frozen=True, kw_only=True):
    """Of `/api/chat`."""

    message: SaidMessage


class PromptLine(Line, frozen=True, kw_only=True):
    """Of `/api/generate`."""

    response: str


class ErrorLine(msgspec.Struct, frozen=True):
    """What went wrong; also the last line of a stream that failed."""

    error: str


class MakeLine(Protocol):
    """Makes the lines of an answer: `/api/chat` and `/api/generate` differ in this only."""

    def __call__(self, text: str, calls: tuple[ToolCall, ...], **fields: Any) -> Line: ...


def chat_line(text: str, calls: tuple[ToolCall, ...], **fields: Any) -> ChatLine:
    """Return a line of `/api/chat`."""
    said = tuple(
        SaidCall(
            id=call.id,
            function=CalledFunction(name=call.name, arguments=msgspec.json.decode(call.arguments)),
        )
        for call in calls
    )
    return ChatLine(message=SaidMessage(content=text, tool_calls=said or UNSET), **fields)


def prompt_line(text: str, calls: tuple[ToolCall, ...], **fields: Any) -> PromptLine:
    """Return a line of `/api/generate`, where there are no calls."""
    return PromptLine(response=text, **fields)


class LineEncoder:
    """Writes an answer as lines of JSON. Implements `answer_stream.StreamEncoder`.

    Args:
        model: The name by which the client asked.
        line: What kind of lines.
    """

    media_type = JSON_LINES

    def __init__(self, model: str, line: MakeLine) -> None:
        self._model = model
        self._make_line = line
        self._started: Started

    def headers(self, first: AnswerEvent) -> Mapping[str, str]:
        """Return route and context, unless the answer waits in line still."""
        return start_headers(first) if isinstance(first, Started) else {}

    def encode(self, event: AnswerEvent) -> bytes:
        """Return a line for what the reader should know, or nothing."""
        if isinstance(event, Started):
            self._started = event
        elif isinstance(event, Delta) and (event.text or event.logprobs):
            return self._line(event.text, logprobs=told_logprobs(event.logprobs))
        elif isinstance(event, Finished):
            calls = self._line("", event.tool_calls) if event.tool_calls else b""
            figures = answer_figures(self._started, event)
            return calls + self._line("", done=True, gridnode=figures, **closing(event))
        return b""

    def keep_alive(self) -> bytes:
        """Return an empty piece: there are no comments, and readers add nothing to nothing."""
        return self._line("")

    def end(self) -> bytes:
        """Return nothing: the line that says `done` is the end."""
        return b""

    def fail(self, body: ErrorBody) -> bytes:
        """Return a line with the error."""
        return _encode(ErrorLine(body.message))

    def refuse(self, body: ErrorBody) -> Response:
        """Return an ordinary answer for an error."""
        return refuse(body)

    def _line(self, text: str, calls: tuple[ToolCall, ...] = (), *, done: bool = False, **more: Any) -> bytes:
        return _encode(self._make_line(text, calls, model=self._model, created_at=_now(), done=done, **more))


def whole_line(model: str, line: MakeLine, answer: CollectedAnswer) -> Line:
    """Return the answer to a request that does not stream."""
    return line(
        answer.text,
        answer.finished.tool_calls,
        model=model,
        created_at=_now(),
        done=True,
        logprobs=told_logprobs(answer.logprobs),
        gridnode=answer.figures,
        **closing(answer.finished),
    )


def nothing_to_say(model: str, line: MakeLine, *, reason: str) -> Line:
    """Return the answer to a request without a prompt, which asks Ollama to load or unload the model."""
    return line("", (), model=model, created_at=_now(), done=True, done_reason=reason)


def closing(finished: Finished) -> dict[str, Any]:
    """Return the fields that an answer ends with: why it ended, and the figures."""
    # The first token belongs to the prompt; the others follow at the measured rate.
    rate = finished.decode_tokens_per_s
    decode_s = (finished.completion_tokens - 1) / rate if rate else 0.0
    return {
        "done_reason": "length" if finished.reason == "length" else "stop",
        "total_duration": _nanoseconds(finished.ttft_s + decode_s),
        "load_duration": 0,
        "prompt_eval_count": finished.prompt_tokens,
        "prompt_eval_duration": _nanoseconds(finished.ttft_s),
        "eval_count": finished.completion_tokens,
        # Clients divide by it.
        "eval_duration": max(1, _nanoseconds(decode_s)),
    }


def told_logprobs(chosen: Iterable[ChosenLogprob]) -> tuple[TokenLogprob, ...] | UnsetType:
    """Return logprobs as Ollama tells them; nothing if there are none."""
    found = tuple(
        TokenLogprob(
            **_logprob(one.chosen), top_logprobs=tuple(TopLogprob(**_logprob(top)) for top in one.top)
        )
        for one in chosen
    )
    return found or UNSET


def refuse(body: ErrorBody, *, status: int | None = None) -> Response:
    """Return Ollama's answer for an error."""
    return error_response(body, status=status, words=ErrorLine(body.message))


def _logprob(logprob: Logprob) -> dict[str, Any]:
    return {"token": logprob.text, "logprob": logprob.logprob, "bytes": tuple(logprob.text.encode())}


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _nanoseconds(duration_s: float) -> int:
    return round(duration_s * 1e9)


def _encode(line: Line | ErrorLine) -> bytes:
    return msgspec.json.encode(line) + b"\n"
