"""One answer as a stream of server-sent events, ended at once when its reader leaves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gridnode.control.door_errors import ErrorBody, describe_error
from gridnode.control.door_response import error_response
from gridnode.control.schema import AnswerEvent, Failed, GenerateEvent
from gridnode.control.server_sent import KEEP_ALIVE, encode_event
from gridnode.errors import ErrorCode, GridError

logger = logging.getLogger("gridnode.control.answer")

# Prefill of a long prompt may be silent for minutes; proxies give up after 30 to 60 s of silence.
KEEP_ALIVE_S = 10.0
# Who takes nothing for a minute is gone or asleep, and holds leases on every hop.
MAX_READER_PAUSE_S = 60.0

Events = AsyncGenerator[AnswerEvent, None]


class _ReaderAsleep(Exception):
    """Raised when the reader takes nothing for too long."""


class AnswerStream(Response):
    """Sends the events of an answer.

    Errors before the first event are ordinary HTTP answers; later ones are an event `failed`.

    Args:
        events: Closed in any case: at the end, when the reader disconnects, when the node stops.
        closing: Set when the node stops.
        keep_alive_s: Seconds between comments that show that the stream lives.
    """

    def __init__(self, events: Events, *, closing: asyncio.Event, keep_alive_s: float = KEEP_ALIVE_S) -> None:
        super().__init__()
        self._events = events
        self._closing = closing
        self._keep_alive_s = keep_alive_s
        self._send: Send
        self._is_started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer until the events end, the reader leaves or the node stops."""
        self._send = send
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(self._answer(scope, receive), name="answer")
            gone = group.create_task(_wait_disconnected(receive), name="reader-gone")
            closing = group.create_task(self._closing.wait(), name="node-stops")
            await asyncio.wait({answer, gone, closing}, return_when=asyncio.FIRST_COMPLETED)
            for task in (answer, gone, closing):
                task.cancel()
        if self._closing.is_set() and answer.cancelled():
            body = ErrorBody(code=ErrorCode.CONNECTION_CLOSED, message="the node is stopping")
            await self._fail(body, scope, receive)

    async def _answer(self, scope: Scope, receive: Receive) -> None:
        try:
            async with contextlib.aclosing(self._events) as events:
                await self._relay(events)
        except GridError as exc:
            await self._fail(describe_error(exc), scope, receive)
        except _ReaderAsleep:
            logger.info("a reader took nothing for %.0f s; its answer is cancelled", MAX_READER_PAUSE_S)
        except Exception:
            logger.exception("an answer failed")
            body = ErrorBody(code=ErrorCode.INTERNAL, message="internal error; the node's log says more")
            await self._fail(body, scope, receive)

    async def _relay(self, events: Events) -> None:
        first = await anext(events)
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # nginx would hold the events back
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        self._is_started = True
        await self._put(encode_event(first))
        beat = asyncio.create_task(self._beat(), name="keep-alive")  # awaited below
        try:
            async for event in events:
                await self._put(encode_event(event))
        finally:
            beat.cancel()
            await asyncio.wait({beat})
        await self._put(b"", more=False)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._keep_alive_s)
            # Whole events only are sent, so a comment can stand between any two.
            await self._put(KEEP_ALIVE)

    async def _put(self, data: bytes, *, more: bool = True) -> None:
        try:
            async with asyncio.timeout(MAX_READER_PAUSE_S):
                await self._send({"type": "http.response.body", "body": data, "more_body": more})
        except TimeoutError as exc:
            raise _ReaderAsleep from exc

    async def _fail(self, body: ErrorBody, scope: Scope, receive: Receive) -> None:
        if not self._is_started:
            await error_response(body)(scope, receive, self._send)
            return
        event: GenerateEvent = Failed(code=body.code, text=body.message)
        with contextlib.suppress(_ReaderAsleep):
            await self._put(encode_event(event))
            await self._put(b"", more=False)


async def _wait_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
