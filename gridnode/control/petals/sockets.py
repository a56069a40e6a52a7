"""Petals' WebSocket: one session for each socket, until it leaves, is silent too long, or fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from gridnode.control.answer_stream import MAX_READER_PAUSE_S
from gridnode.control.dialect import names
from gridnode.control.door_errors import ErrorBody, describe_error, status_of
from gridnode.control.guard import ADMIT_AGAIN
from gridnode.control.interface import NodeControl
from gridnode.control.petals.errors import trouble
from gridnode.control.petals.requests import Generate, Opened, OpenSession, Reply, Trouble
from gridnode.control.petals.session import PetalsSession
from gridnode.control.socket_closing import (
    GOING_AWAY,
    NORMAL_CLOSURE,
    POLICY_VIOLATION,
    UNSUPPORTED_DATA,
    closing_code,
    closing_reason,
)
from gridnode.errors import BadInput, ContextFull, ErrorCode, GridError, NoCapacity

logger = logging.getLogger("gridnode.control.petals")

# Each may hold leases on every hop.
MAX_SOCKETS = 64
# Longer than a person needs to write the next turn; Petals expired sessions as well.
MAX_IDLE_S = 300.0
# Who asks for token after token is back sooner. For others the leases are not kept: tokens are, and run
# again when the answer goes on.
MAX_PAUSE_S = 10.0
# A client asks, and reads until the turn ends; who sends more than this meanwhile does not read.
MAX_QUEUED_MESSAGES = 8


class PetalsSockets:
    """Serves the sockets of one door.

    Args:
        max_pause_s: Seconds of silence after which a session frees its leases.
        max_idle_s: Seconds of silence after which it is lost.
    """

    def __init__(
        self,
        control: NodeControl,
        *,
        max_sockets: int = MAX_SOCKETS,
        max_pause_s: float = MAX_PAUSE_S,
        max_idle_s: float = MAX_IDLE_S,
    ) -> None:
        self._control = control
        self._max_sockets = max_sockets
        self._max_pause_s = max_pause_s
        self._max_idle_s = max_idle_s
        self._num_open = 0

    async def serve(self, socket: WebSocket) -> None:
        """Serve one socket until its end."""
        closing: asyncio.Event = socket.app.state.closing
        messages: asyncio.Queue[str] = asyncio.Queue(MAX_QUEUED_MESSAGES)
        await socket.accept()
        self._num_open += 1
        try:
            async with asyncio.TaskGroup() as group:
                talk = group.create_task(self._guarded(socket, messages), name="petals-session")
                gone = group.create_task(_read(socket, messages), name="petals-reader")
                stopping = group.create_task(closing.wait(), name="node-stops")
                await asyncio.wait({talk, gone, stopping}, return_when=asyncio.FIRST_COMPLETED)
                for task in (talk, gone, stopping):
                    task.cancel()
            if closing.is_set() and talk.cancelled():
                await _end(socket, Trouble(traceback="the node is stopping"), GOING_AWAY)
        finally:
            self._num_open -= 1

    async def _guarded(self, socket: WebSocket, messages: asyncio.Queue[str]) -> None:
        try:
            await self._talk(socket, messages)
        except GridError as exc:
            body = describe_error(exc)
            await _end(socket, trouble(body), closing_code(status_of(body)))
        except WebSocketDisconnect:
            pass
        except Exception:
            logger.exception("a session failed")
            body = ErrorBody(code=ErrorCode.INTERNAL, message="internal error; the node's log says more")
            await _end(socket, trouble(body), NORMAL_CLOSURE)

    async def _talk(self, socket: WebSocket, messages: asyncio.Queue[str]) -> None:
        if self._num_open > self._max_sockets:
            raise NoCapacity(f"this node serves {self._max_sockets} sockets at once, and all are taken")
        opening = await self._next(messages)
        if not isinstance(opening, OpenSession):
            raise BadInput("the first message must be 'open_inference_session'")
        self._check_length(opening)
        session = PetalsSession(self._control, model=opening.model, max_length=opening.max_length)
        async with contextlib.aclosing(session):
            await _send(socket, Opened())
            while True:
                wanted = await self._next(messages, session)
                if not isinstance(wanted, Generate):
                    raise BadInput("the session is open already; 'generate' is next")
                if wanted.inputs:
                    getattr(socket.state, ADMIT_AGAIN, _admit_anybody)()
                async with contextlib.aclosing(session.generate(wanted)) as replies:
                    async for reply in replies:
                        await _send(socket, reply)

    def _check_length(self, opening: OpenSession) -> None:
        """Refuse a session that can never have the length that it wants."""
        for model in self._control.status().models:
            if names(model, opening.model) and 0 < model.context_tokens < opening.max_length:
                raise ContextFull(opening.max_length, model.context_tokens)

    async def _next(
        self, messages: asyncio.Queue[str], session: PetalsSession | None = None
    ) -> OpenSession | Generate:
        text = await _get(messages, self._max_pause_s)
        if text is None and session is not None:
            await session.aclose()
        text = text or await _get(messages, self._max_idle_s - self._max_pause_s)
        if text is None:
            raise _Expired(f"nothing came for {self._max_idle_s:.0f} s")
        try:
            return msgspec.json.decode(text, type=OpenSession | Generate, strict=False)
        except (msgspec.DecodeError, RecursionError) as exc:
            raise BadInput(f"the message cannot be used: {exc}") from exc


def _admit_anybody() -> None:
    """Stands for the guard where nobody needs a key."""


class _Expired(GridError):
    """Raised when a socket is silent for too long."""

    code = ErrorCode.TIMEOUT


async def _get(messages: asyncio.Queue[str], timeout_s: float) -> str | None:
    """Return the next message, or None if there is none in time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            return await messages.get()
    return None


async def _read(socket: WebSocket, messages: asyncio.Queue[str]) -> None:
    """Read until the reader leaves, sends without reading, or sends what is no text."""
    # Not `receive_text`: it takes for granted that there is text.
    while (frame := await socket.receive())["type"] != "websocket.disconnect":
        text = frame.get("text")
        if text is None:
            said = "the message cannot be used: it is binary, and requests are JSON in text frames"
            await _end(socket, Trouble(traceback=said), UNSUPPORTED_DATA)
            return
        try:
            messages.put_nowait(text)
        except asyncio.QueueFull:
            said = f"{MAX_QUEUED_MESSAGES} messages wait already; read the answers before sending more"
            await _end(socket, Trouble(traceback=said), POLICY_VIOLATION)
            return


async def _send(socket: WebSocket, record: Reply | Trouble | Opened) -> None:
    try:
        async with asyncio.timeout(MAX_READER_PAUSE_S):
            await socket.send_text(msgspec.json.encode(record).decode())
    except TimeoutError as exc:
        raise WebSocketDisconnect(GOING_AWAY, "the reader sleeps") from exc


async def _end(socket: WebSocket, last: Trouble, code: int) -> None:
    # Who left needs no goodbye.
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        await _send(socket, last)
        await socket.close(code, closing_reason(last.traceback))
