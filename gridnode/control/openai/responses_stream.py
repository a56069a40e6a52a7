"""The stream of `POST /v1/responses`: named events, numbered one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from gridnode.control.answer_figures import answer_figures, start_headers
from gridnode.control.answer_schema import (
    AnswerEvent,
    ChosenLogprob,
    Delta,
    Finished,
    Rerouted,
    Started,
    Waiting,
)
from gridnode.control.door_errors import ErrorBody
from gridnode.control.openai.errors import api_error, api_error_response
from gridnode.control.openai.logprobs import TokenLogprob, token_logprobs
from gridnode.control.openai.responses_answer import (
    OutputCall,
    OutputMessage,
    OutputText,
    ResponseError,
    ResponseObject,
    begin_response,
    complete_response,
    new_id,
    output_call,
    output_message,
    output_text,
)
from gridnode.control.openai.responses_request import ResponseRequest
from gridnode.control.server_sent import EVENT_STREAM, KEEP_ALIVE, progress_comment


class ResponseEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event; which fields it has depends on its type."""

    type: str
    sequence_number: int | None = None
    response: ResponseObject | None = None
    item: OutputMessage | OutputCall | None = None
    part: OutputText | None = None
    item_id: str = ""
    output_index: int | None = None
    content_index: int | None = None
    delta: str | None = None
    text: str | None = None
    arguments: str | None = None
    name: str | None = None
    logprobs: list[TokenLogprob] | None = None


class ResponseEncoder:
    """Writes the events of one response. Implements `answer_stream.StreamEncoder`."""

    media_type = EVENT_STREAM

    def __init__(self, wanted: ResponseRequest) -> None:
        self._wanted = wanted
        self._response: ResponseObject | None = None
        self._started: Started | None = None
        self._item_id = ""
        self._texts: list[str] = []
        self._logprobs: list[ChosenLogprob] = []
        self._num_sent = 0

    def headers(self, first: AnswerEvent) -> Mapping[str, str]:
        """Return route and context, unless the answer waits in line still."""
        return start_headers(first) if isinstance(first, Started) else {}

    def encode(self, event: AnswerEvent) -> bytes:
        """Return the events, or the comment, for `event`."""
        if isinstance(event, Waiting | Rerouted):
            return progress_comment(event)
        return b"".join(map(self._line, self._events(event)))

    def keep_alive(self) -> bytes:
        """Return a comment."""
        return KEEP_ALIVE

    def end(self) -> bytes:
        """Return nothing: `response.completed` is the end."""
        return b""

    def fail(self, body: ErrorBody) -> bytes:
        """Return `response.failed`, or `error` if the response never began."""
        error = api_error(body).error
        if self._response is None:
            line = b"event: error\ndata: %s\n\n"
            return line % msgspec.json.encode(
                {"type": "error", "code": error.code, "message": error.message, "param": error.param}
                | {"sequence_number": self._num_sent}
            )
        told = ResponseError(code="server_error", message=f"{error.message} ({error.code})")
        failed = msgspec.structs.replace(self._response, status="failed", error=told)
        return self._line(ResponseEvent(type="response.failed", response=failed))

    def refuse(self, body: ErrorBody) -> Response:
        """Return an ordinary answer for an error."""
        return api_error_response(body)

    def _events(self, event: Started | Delta | Finished) -> Iterator[ResponseEvent]:
        if isinstance(event, Started):
            self._started = event
            self._response = begin_response(self._wanted, event.model)
            yield ResponseEvent(type="response.created", response=self._response)
            yield ResponseEvent(type="response.in_progress", response=self._response)
        elif isinstance(event, Finished):
            yield from self._finish(event)
        elif event.text or event.logprobs:
            if not self._item_id:
                yield from self._begin_message()
            self._texts.append(event.text)
            self._logprobs.extend(event.logprobs)
            yield self._of_text(
                "response.output_text.delta",
                delta=event.text,
                logprobs=token_logprobs(event.logprobs, of_half_character=[]),
            )

    def _begin_message(self) -> Iterator[ResponseEvent]:
        self._item_id = new_id("msg")
        empty = OutputMessage(id=self._item_id, content=[], status="in_progress")
        yield ResponseEvent(type="response.output_item.added", output_index=0, item=empty)
        yield self._of_text("response.content_part.added", part=OutputText(text=""))

    def _finish(self, finished: Finished) -> Iterator[ResponseEvent]:
        assert self._started is not None
        assert self._response is not None
        calls = [output_call(call) for call in finished.tool_calls[: self._wanted.max_calls]]
        output: list[OutputMessage | OutputCall] = []
        if not self._item_id and not calls:
            yield from self._begin_message()
        if self._item_id:
            text = "".join(self._texts)
            message = output_message(self._item_id, text, self._logprobs, finished)
            logprobs = token_logprobs(self._logprobs, of_half_character=[])
            yield self._of_text("response.output_text.done", text=text, logprobs=logprobs)
            yield self._of_text("response.content_part.done", part=output_text(text, self._logprobs))
            yield ResponseEvent(type="response.output_item.done", output_index=0, item=message)
            output.append(message)
        for call in calls:
            yield from _call_events(call, len(output))
            output.append(call)
        figures = answer_figures(self._started, finished)
        response = complete_response(self._response, output, finished, figures)
        yield ResponseEvent(type=f"response.{response.status}", response=response)

    def _of_text(self, kind: str, **fields: Any) -> ResponseEvent:
        return ResponseEvent(type=kind, item_id=self._item_id, output_index=0, content_index=0, **fields)

    def _line(self, event: ResponseEvent) -> bytes:
        numbered = msgspec.structs.replace(event, sequence_number=self._num_sent)
        self._num_sent += 1
        return b"event: %s\ndata: %s\n\n" % (event.type.encode(), msgspec.json.encode(numbered))


def _call_events(call: OutputCall, index: int) -> Iterator[ResponseEvent]:
    begun = msgspec.structs.replace(call, arguments="", status="in_progress")
    of_call = "response.function_call_arguments"
    yield ResponseEvent(type="response.output_item.added", output_index=index, item=begun)
    yield ResponseEvent(type=f"{of_call}.delta", item_id=call.id, output_index=index, delta=call.arguments)
    yield ResponseEvent(
        type=f"{of_call}.done",
        item_id=call.id,
        output_index=index,
        name=call.name,
        arguments=call.arguments,
    )
    yield ResponseEvent(type="response.output_item.done", output_index=index, item=call)
