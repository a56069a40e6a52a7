"""Streams of messages: blocks that begin, grow and end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
from starlette.responses import Response

from gridnode.control.answer_figures import AnswerFigures, answer_figures, start_headers
from gridnode.control.answer_schema import AnswerEvent, Delta, Finished, GenerateRequest, Started, ToolCall
from gridnode.control.anthropic.answers import (
    Message,
    StopReason,
    TextBlock,
    ToolUseBlock,
    Usage,
    new_message_id,
    stop_reason,
    usage_of,
)
from gridnode.control.anthropic.errors import api_error, refuse
from gridnode.control.door_errors import ErrorBody
from gridnode.control.server_sent import EVENT_STREAM, progress_comment


class MessageStart(msgspec.Struct, frozen=True, kw_only=True, tag="message_start"):
    """The session is open; the message has no content yet."""

    message: Message


class Ping(msgspec.Struct, frozen=True, kw_only=True, tag="ping"):
    """The stream lives."""


class BlockStart(msgspec.Struct, frozen=True, kw_only=True, tag="content_block_start"):
    """An empty block, which is the number `index` of the message."""

    index: int
    content_block: TextBlock | ToolUseBlock


class TextDelta(msgspec.Struct, frozen=True, kw_only=True, tag="text_delta"):
    """More text."""

    text: str


class InputDelta(msgspec.Struct, frozen=True, kw_only=True, tag="input_json_delta"):
    """More of the arguments of a call."""

    partial_json: str


class BlockDelta(msgspec.Struct, frozen=True, kw_only=True, tag="content_block_delta"):
    """A block grows."""

    index: int
    delta: TextDelta | InputDelta


class BlockStop(msgspec.Struct, frozen=True, kw_only=True, tag="content_block_stop"):
    """A block is complete."""

    index: int


class MessageEnd(msgspec.Struct, frozen=True, kw_only=True):
    """Why a message ended."""

    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(msgspec.Struct, frozen=True, kw_only=True, tag="message_delta"):
    """What is known at the end of a message."""

    delta: MessageEnd
    usage: Usage
    gridnode: AnswerFigures


class MessageStop(msgspec.Struct, frozen=True, kw_only=True, tag="message_stop"):
    """The message is complete."""


StreamEvent = MessageStart | Ping | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop


class MessageEncoder:
    """Writes an answer as a stream of one message. Implements `answer_stream.StreamEncoder`.

    Args:
        max_calls: How many calls of tools to tell; None tells all.
    """

    media_type = EVENT_STREAM

    def __init__(self, asked: GenerateRequest, *, max_calls: int | None) -> None:
        self._asked = asked
        self._max_calls = max_calls
        self._started: Started
        self._index = 0
        self._is_block_open = False

    def headers(self, first: AnswerEvent) -> Mapping[str, str]:
        """Return route and context, unless the answer waits in line still."""
        return start_headers(first) if isinstance(first, Started) else {}

    def encode(self, event: AnswerEvent) -> bytes:
        """Return the events, or the comment, for `event`."""
        if isinstance(event, Started):
            events = self._begin(event)
        elif isinstance(event, Delta):
            events = self._say(event.text)
        elif isinstance(event, Finished):
            events = self._finish(event)
        else:
            return progress_comment(event)
        return b"".join(map(_encode, events))

    def keep_alive(self) -> bytes:
        """Return a ping."""
        return _encode(Ping())

    def end(self) -> bytes:
        """Return nothing: `message_stop` is the end."""
        return b""

    def fail(self, body: ErrorBody) -> bytes:
        """Return an event `error`."""
        return b"event: error\ndata: %s\n\n" % msgspec.json.encode(api_error(body))

    def refuse(self, body: ErrorBody) -> Response:
        """Return an ordinary answer for an error."""
        return refuse(body)

    def _begin(self, started: Started) -> Iterator[StreamEvent]:
        self._started = started
        yield MessageStart(
            message=Message(
                id=new_message_id(),
                model=self._asked.model,
                content=(),
                stop_reason=None,
                stop_sequence=None,
                usage=Usage(input_tokens=started.prompt_tokens, output_tokens=0),
            )
        )
        yield Ping()

    def _say(self, text: str) -> Iterator[StreamEvent]:
        if not text:
            return
        if not self._is_block_open:
            self._is_block_open = True
            yield BlockStart(index=self._index, content_block=TextBlock(text=""))
        yield BlockDelta(index=self._index, delta=TextDelta(text=text))

    def _finish(self, finished: Finished) -> Iterator[StreamEvent]:
        if self._is_block_open:
            yield BlockStop(index=self._index)
            self._index += 1
        for index, call in enumerate(finished.tool_calls[: self._max_calls], start=self._index):
            yield from _call(index, call)
        yield MessageDelta(
            delta=MessageEnd(
                stop_reason=stop_reason(self._asked, finished), stop_sequence=finished.stop_text or None
            ),
            usage=usage_of(finished),
            gridnode=answer_figures(self._started, finished),
        )
        yield MessageStop()


def _call(index: int, call: ToolCall) -> Iterator[StreamEvent]:
    yield BlockStart(index=index, content_block=ToolUseBlock(id=call.id, name=call.name, input={}))
    yield BlockDelta(index=index, delta=InputDelta(partial_json=call.arguments))
    yield BlockStop(index=index)


def _encode(event: StreamEvent) -> bytes:
    name = str(event.__struct_config__.tag).encode()
    return b"event: %s\ndata: %s\n\n" % (name, msgspec.json.encode(event))
