"""Server-sent events (WHATWG HTML, section 9.2): the events of an answer as lines of text, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from starlette.responses import Response

from gridnode.control.answer_figures import describe_route
from gridnode.control.answer_schema import (
    AnswerEvent,
    Delta,
    Failed,
    Finished,
    GenerateEvent,
    Rerouted,
    Started,
    Waiting,
)
from gridnode.control.door_errors import ErrorBody
from gridnode.control.door_response import error_response
from gridnode.errors import ProtocolError

EVENT_STREAM = "text/event-stream; charset=utf-8"
KEEP_ALIVE = b": keep-alive\n\n"
"""A comment: readers skip it, proxies see that the stream lives."""

_KINDS: dict[str, type[GenerateEvent]] = {
    "waiting": Waiting,
    "started": Started,
    "delta": Delta,
    "rerouted": Rerouted,
    "finished": Finished,
    "failed": Failed,
}


def encode_event(event: GenerateEvent) -> bytes:
    """Return `event` as one server-sent event: its name and its JSON on one line."""
    return b"event: %s\ndata: %s\n\n" % (event.event.encode(), msgspec.json.encode(event))


def comment(text: str) -> bytes:
    """Return `text` as a comment, which readers skip and people see in `curl -N`."""
    return b": %s\n\n" % " ".join(text.split()).encode()


def progress_comment(event: Waiting | Rerouted) -> bytes:
    """Return what a reader may want to know and clients skip: the place in the line, a new route."""
    if isinstance(event, Waiting):
        before = f", {event.position} answers are served first" if event.position else ""
        return comment(f"waiting{before}: {event.text}")
    return comment(f"rerouted to {describe_route(event.route)}")


class EventEncoder:
    """The door's own dialect: every event as it is. Implements `answer_stream.StreamEncoder`."""

    media_type = EVENT_STREAM

    def headers(self, first: AnswerEvent) -> Mapping[str, str]:
        """Return no headers: the event `started` says it all."""
        return {}

    def encode(self, event: AnswerEvent) -> bytes:
        """Return `event` as one server-sent event."""
        return encode_event(event)

    def keep_alive(self) -> bytes:
        """Return a comment."""
        return KEEP_ALIVE

    def end(self) -> bytes:
        """Return nothing: `finished` is the end."""
        return b""

    def fail(self, body: ErrorBody) -> bytes:
        """Return an event `failed`."""
        return encode_event(Failed(code=body.code, text=body.message))

    def refuse(self, body: ErrorBody) -> Response:
        """Return the door's answer for an error."""
        return error_response(body)


@dataclass(slots=True)
class EventReader:
    """Turns the lines of a stream into events."""

    _name: str = ""
    _data: str = ""

    def receive_line(self, line: str) -> GenerateEvent | None:
        """Return the event that `line`, without its line end, completes.

        Raises:
            ProtocolError: the data is not what its name promises.
        """
        if line.startswith("event: "):
            self._name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            self._data = line.removeprefix("data: ")
        elif not line and self._data:
            return self._complete()
        return None

    def _complete(self) -> GenerateEvent | None:
        name, data = self._name, self._data
        self._name = self._data = ""
        # Newer nodes may have more kinds of events.
        if name not in _KINDS:
            return None
        try:
            return msgspec.json.decode(data, type=_KINDS[name])
        except msgspec.DecodeError as exc:
            raise ProtocolError(f"the node sent an event {name!r} that cannot be read: {exc}") from exc
