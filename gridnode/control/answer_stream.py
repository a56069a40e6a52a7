"""One answer on its way to one reader, in any dialect; ended at once when the reader leaves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Generic, Protocol, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gridnode.control.door_errors import ErrorBody, describe_error
from gridnode.errors import ErrorCode, GridError

logger = logging.getLogger("gridnode.control.answer")

# Prefill of a long prompt may be silent for minutes; proxies give up after 30 to 60 s of silence.
KEEP_ALIVE_S = 10.0
# Who takes nothing for a minute is gone or asleep, and holds leases on every hop.
MAX_READER_PAUSE_S = 60.0

Event = TypeVar("Event")
Heard = TypeVar("Heard", contravariant=True)
Refuse = Callable[[ErrorBody], Response]


class StreamEncoder(Protocol[Heard]):
    """How a dialect writes the events of one answer. Make one for each answer: it may remember."""

    media_type: str

    def headers(self, first: Heard) -> Mapping[str, str]:
        """Return what the headers say beyond the media type, knowing the first event."""
        ...

    def encode(self, event: Heard) -> bytes:
        """Return what the reader gets for `event`: whole pieces of the stream, or nothing."""
        ...

    def keep_alive(self) -> bytes:
        """Return what shows that the stream lives; nothing if the dialect has no words for it."""
        ...

    def end(self) -> bytes:
        """Return what follows the last event."""
        ...

    def fail(self, body: ErrorBody) -> bytes:
        """Return the end of a stream that fails after its first event."""
        ...

    def refuse(self, body: ErrorBody) -> Response:
        """Return the answer if it fails before its first event."""
        ...


class _Answer(Response, ABC):
    """Works on an answer until it is complete, the reader leaves or the node stops."""

    def __init__(self, closing: asyncio.Event) -> None:
        super().__init__()
        self._closing = closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def fail(body: ErrorBody) -> None:
            await self._fail(body, scope, receive, send)

        async with asyncio.TaskGroup() as group:
            answer = group.create_task(_guarded(self._answer(scope, receive, send), fail), name="answer")
            gone = group.create_task(_wait_disconnected(receive), name="reader-gone")
            closing = group.create_task(self._closing.wait(), name="node-stops")
            await asyncio.wait({answer, gone, closing}, return_when=asyncio.FIRST_COMPLETED)
            for task in (answer, gone, closing):
                task.cancel()
        if self._closing.is_set() and answer.cancelled():
            await fail(ErrorBody(code=ErrorCode.CONNECTION_CLOSED, message="the node is stopping"))

    @abstractmethod
    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    @abstractmethod
    async def _fail(self, body: ErrorBody, scope: Scope, receive: Receive, send: Send) -> None: ...


class WholeAnswer(_Answer):
    """Sends one response, once it is there.

    Args:
        make: Makes the response; cancelled when the reader disconnects or the node stops.
        refuse: Makes the response for an error.
        closing: Set when the node stops.
    """

    def __init__(
        self, make: Callable[[], Awaitable[Response]], *, refuse: Refuse, closing: asyncio.Event
    ) -> None:
        super().__init__(closing)
        self._make = make
        self._refuse = refuse

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._make()
        await response(scope, receive, send)

    async def _fail(self, body: ErrorBody, scope: Scope, receive: Receive, send: Send) -> None:
        await self._refuse(body)(scope, receive, send)


class AnswerStream(_Answer, Generic[Event]):
    """Sends the events of an answer as they come.

    Errors before the first event are ordinary HTTP answers; later ones end the stream in its own words.

    Args:
        events: Closed in any case: at the end, when the reader disconnects, when the node stops.
        encoder: Puts the events into the words of a dialect.
        closing: Set when the node stops.
        keep_alive_s: Seconds between signs that the stream lives.
    """

    def __init__(
        self,
        events: AsyncGenerator[Event, None],
        *,
        encoder: StreamEncoder[Event],
        closing: asyncio.Event,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        super().__init__(closing)
        self._events = events
        self._encoder = encoder
        self._keep_alive_s = keep_alive_s
        self._is_started = False

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with contextlib.aclosing(self._events) as events:
            first = await anext(events)
            await self._start(first, send)
            await self._put(self._encoder.encode(first), send)
            beat = asyncio.create_task(self._beat(send), name="keep-alive")  # awaited below
            try:
                async for event in events:
                    await self._put(self._encoder.encode(event), send)
            finally:
                beat.cancel()
                await asyncio.wait({beat})
            await self._put(self._encoder.end(), send, more=False)

    async def _start(self, first: Event, send: Send) -> None:
        headers = {
            "content-type": self._encoder.media_type,
            "cache-control": "no-store",
            "x-accel-buffering": "no",  # nginx would hold the events back
            **self._encoder.headers(first),
        }
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": encoded})
        self._is_started = True

    async def _beat(self, send: Send) -> None:
        # Whole events only are sent, so a comment can stand between any two.
        while True:
            await asyncio.sleep(self._keep_alive_s)
            await self._put(self._encoder.keep_alive(), send)

    async def _put(self, data: bytes, send: Send, *, more: bool = True) -> None:
        if not data and more:
            return
        try:
            async with asyncio.timeout(MAX_READER_PAUSE_S):
                await send({"type": "http.response.body", "body": data, "more_body": more})
        except TimeoutError as exc:
            raise _ReaderAsleep from exc

    async def _fail(self, body: ErrorBody, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._is_started:
            await self._encoder.refuse(body)(scope, receive, send)
            return
        with contextlib.suppress(_ReaderAsleep):
            await self._put(self._encoder.fail(body), send, more=False)


class _ReaderAsleep(Exception):
    """Raised when the reader takes nothing for too long."""


async def _guarded(answer: Awaitable[None], fail: Callable[[ErrorBody], Awaitable[None]]) -> None:
    try:
        await answer
    except GridError as exc:
        await fail(describe_error(exc))
    except _ReaderAsleep:
        logger.info("a reader took nothing for %.0f s; its answer is cancelled", MAX_READER_PAUSE_S)
    except Exception:
        logger.exception("an answer failed")
        await fail(ErrorBody(code=ErrorCode.INTERNAL, message="internal error; the node's log says more"))


async def _wait_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
