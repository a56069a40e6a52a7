"""Streams of chunks, as chat completions and completions have them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from gridnode.control.answer_figures import (
    AnswerFigures,
    answer_figures,
    start_headers,
)
from gridnode.control.answer_schema import Delta, Finished, Started
from gridnode.control.door_errors import ErrorBody
from gridnode.control.openai.choices import ChoiceEvent
from gridnode.control.openai.errors import api_error, api_error_response
from gridnode.control.openai.usage import Usage, usage_of
from gridnode.control.server_sent import EVENT_STREAM, KEEP_ALIVE, progress_comment


def data_line(record: Any) -> bytes:
    """Return `record` as one server-sent event without a name."""
    return b"data: %s\n\n" % msgspec.json.encode(record)


class ChunkEncoder(ABC):
    """Writes the events of all choices as chunks. Implements `answer_stream.StreamEncoder`.

    Args:
        choices_per_prompt: The choices `[0, choices_per_prompt)` answer the first prompt, and so on.
        wants_usage: Whether a last chunk tells the usage.
    """

    media_type = EVENT_STREAM

    def __init__(self, *, choices_per_prompt: int, wants_usage: bool) -> None:
        self._choices_per_prompt = choices_per_prompt
        self._wants_usage = wants_usage
        self._started: dict[int, Started] = {}
        self._finished: dict[int, Finished] = {}

    @abstractmethod
    def begin(self, choice: int, started: Started) -> Iterable[Any]:
        """Return the chunks with which a choice begins."""

    @abstractmethod
    def go_on(self, choice: int, delta: Delta) -> Iterable[Any]:
        """Return the chunks for a piece of a choice."""

    @abstractmethod
    def finish(self, choice: int, finished: Finished) -> Iterable[Any]:
        """Return the chunks with which a choice ends."""

    @abstractmethod
    def sum_up(self, usage: Usage, figures: AnswerFigures) -> Any:
        """Return the chunk behind all choices."""

    def headers(self, first: ChoiceEvent) -> Mapping[str, str]:
        """Return route and context, unless the answer waits in line still."""
        return start_headers(first.event) if isinstance(first.event, Started) else {}

    def encode(self, event: ChoiceEvent) -> bytes:
        """Return the chunks, or the comment, for `event`."""
        choice, what = event.choice, event.event
        if isinstance(what, Delta):
            chunks = self.go_on(choice, what)
        elif isinstance(what, Started):
            self._started[choice] = what
            chunks = self.begin(choice, what)
        elif isinstance(what, Finished):
            self._finished[choice] = what
            chunks = self.finish(choice, what)
        else:
            return progress_comment(what)
        return b"".join(map(data_line, chunks))

    def keep_alive(self) -> bytes:
        """Return a comment."""
        return KEEP_ALIVE

    def end(self) -> bytes:
        """Return the usage, if it is wanted, and the end mark."""
        return (self._last_chunk() if self._wants_usage else b"") + b"data: [DONE]\n\n"

    def fail(self, body: ErrorBody) -> bytes:
        """Return the error; clients raise it."""
        return data_line(api_error(body))

    def refuse(self, body: ErrorBody) -> Response:
        """Return an ordinary answer for an error."""
        return api_error_response(body)

    def _last_chunk(self) -> bytes:
        finished = [self._finished[choice] for choice in sorted(self._finished)]
        usage = usage_of(finished, choices_per_prompt=self._choices_per_prompt)
        return data_line(self.sum_up(usage, answer_figures(self._started[0], finished[0])))
