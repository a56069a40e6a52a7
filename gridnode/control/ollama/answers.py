"""Answers in Ollama's words: lines of JSON, or one record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
from starlette.responses import Response

from gridnode.control.answer_figures import start_headers
from gridnode.control.collected_answer import CollectedAnswer
from gridnode.control.door_errors import STATUS_OF, ErrorBody
from gridnode.control.door_response import json_response
from gridnode.control.schema import AnswerEvent, ChosenLogprob, Delta, Finished, Logprob, Started, ToolCall

JSON_LINES = "application/x-ndjson"
Record = dict[str, Any]


class Piece(Protocol):
    """Puts a piece of an answer into a record: `/api/chat` and `/api/generate` differ in this only."""

    def __call__(self, text: str, calls: tuple[ToolCall, ...] = ()) -> Record: ...


def chat_piece(text: str, calls: tuple[ToolCall, ...] = ()) -> Record:
    """Return what `/api/chat` says for a piece of the answer."""
    message: Record = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {"id": call.id, "function": {"name": call.name, "arguments": msgspec.json.decode(call.arguments)}}
            for call in calls
        ]
    return {"message": message}


def prompt_piece(text: str, calls: tuple[ToolCall, ...] = ()) -> Record:
    """Return what `/api/generate` says for a piece of the answer, which has no calls."""
    return {"response": text}


class LineEncoder:
    """Writes an answer as lines of JSON. Implements `answer_stream.StreamEncoder`.

    Args:
        model: The name by which the client knows the model.
        piece: What kind of records the lines are.
    """

    media_type = JSON_LINES

    def __init__(self, model: str, piece: Piece) -> None:
        self._model = model
        self._piece = piece

    def headers(self, first: AnswerEvent) -> Mapping[str, str]:
        """Return the route, if it is known already."""
        return start_headers(first) if isinstance(first, Started) else {}

    def encode(self, event: AnswerEvent) -> bytes:
        """Return a line for what the reader should know, or nothing."""
        if isinstance(event, Delta) and (event.text or event.logprobs):
            return self._line(self._piece(event.text), logprobs=event.logprobs)
        if isinstance(event, Finished):
            calls = self._line(self._piece("", event.tool_calls)) if event.tool_calls else b""
            return calls + _json_line(_head(self._model) | self._piece("") | closing(event))
        return b""

    def keep_alive(self) -> bytes:
        """Return an empty piece: there are no comments, and readers add nothing to nothing."""
        return self._line(self._piece(""))

    def end(self) -> bytes:
        """Return nothing: the record that says `done` is the end."""
        return b""

    def fail(self, body: ErrorBody) -> bytes:
        """Return a line with the error."""
        return _json_line({"error": body.message})

    def refuse(self, body: ErrorBody) -> Response:
        """Return Ollama's answer for an error."""
        return refuse(body)

    def _line(self, piece: Record, *, logprobs: Iterable[ChosenLogprob] = ()) -> bytes:
        return _json_line(_head(self._model) | piece | {"done": False} | _logprobs(logprobs))


def whole_record(model: str, piece: Piece, answer: CollectedAnswer) -> Record:
    """Return the answer to a request that does not stream."""
    said = piece(answer.text, answer.finished.tool_calls)
    return _head(model) | said | closing(answer.finished) | _logprobs(answer.logprobs)


def nothing_to_say(model: str, piece: Piece, *, reason: str) -> Record:
    """Return the answer to a request without a prompt, which asks Ollama to load or unload the model."""
    return _head(model) | piece("") | {"done": True, "done_reason": reason}


def closing(finished: Finished) -> Record:
    """Return the end of an answer: why it ended, and the figures, in nanoseconds."""
    # The first token belongs to the prompt; the others follow at the measured rate.
    rate = finished.decode_tokens_per_s
    decode_s = (finished.completion_tokens - 1) / rate if rate else 0.0
    return {
        "done": True,
        "done_reason": "length" if finished.reason == "length" else "stop",
        "total_duration": _nanoseconds(finished.ttft_s + decode_s),
        "load_duration": 0,
        "prompt_eval_count": finished.prompt_tokens,
        "prompt_eval_duration": _nanoseconds(finished.ttft_s),
        "eval_count": finished.completion_tokens,
        # Clients divide by it.
        "eval_duration": max(1, _nanoseconds(decode_s)),
    }


def refuse(body: ErrorBody, *, status: int | None = None) -> Response:
    """Return Ollama's answer for an error."""
    return json_response({"error": body.message}, status=status or STATUS_OF[body.code])


def _head(model: str) -> Record:
    return {"model": model, "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z")}


def _nanoseconds(duration_s: float) -> int:
    return round(duration_s * 1e9)


def _json_line(record: Record) -> bytes:
    return msgspec.json.encode(record) + b"\n"


def _logprobs(chosen: Iterable[ChosenLogprob]) -> Record:
    entries = [_logprob(one.chosen) | {"top_logprobs": [_logprob(top) for top in one.top]} for one in chosen]
    return {"logprobs": entries} if entries else {}


def _logprob(logprob: Logprob) -> Record:
    return {"token": logprob.text, "logprob": logprob.logprob, "bytes": list(logprob.text.encode())}
