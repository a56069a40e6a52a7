"""Server-sent events (WHATWG HTML, section 9.2): the events of an answer as lines of text, and back."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from gridnode.control.schema import Delta, Failed, Finished, GenerateEvent, Rerouted, Started
from gridnode.errors import ProtocolError

KEEP_ALIVE = b": keep-alive\n\n"
"""A comment: readers skip it, proxies see that the stream lives."""

_KINDS: dict[str, type[GenerateEvent]] = {
    "started": Started,
    "delta": Delta,
    "rerouted": Rerouted,
    "finished": Finished,
    "failed": Failed,
}


def encode_event(event: GenerateEvent) -> bytes:
    """Return `event` as one server-sent event: its name and its JSON on one line."""
    return b"event: %s\ndata: %s\n\n" % (event.event.encode(), msgspec.json.encode(event))


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
