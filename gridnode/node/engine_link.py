"""The node's end of the socket pair to one engine worker: numbered requests, answered in any order."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Self, TypeVar

from gridnode.engine.requests import (
    BackwardRequest,
    Cancel,
    EngineMessage,
    Failed,
    Progress,
    Request,
    StepRequest,
    decode_engine_message,
)
from gridnode.errors import (
    BadCheckpoint,
    BadInput,
    CacheFull,
    ConnectionClosed,
    ContextFull,
    EngineFailed,
    EngineLost,
    ErrorCode,
    GridError,
    NoCapacity,
    NoTraining,
    ProtocolError,
)
from gridnode.units import MIB
from gridnode.wire.codec import encode_message
from gridnode.wire.frames import Frame, FrameDecoder, encode_frame

# Requests under way to one worker; more wait here for their turn.
MAX_REQUESTS_UNDER_WAY = 1024
_READ_BYTES = 1 * MIB

A = TypeVar("A")

_SIMPLE_ERRORS: dict[ErrorCode, type[GridError]] = {
    ErrorCode.BAD_CHECKPOINT: BadCheckpoint,
    ErrorCode.BAD_INPUT: BadInput,
    ErrorCode.CONNECTION_CLOSED: ConnectionClosed,
    ErrorCode.NO_CAPACITY: NoCapacity,
    ErrorCode.NO_TRAINING: NoTraining,
    ErrorCode.PROTOCOL: ProtocolError,
}


def error_of(failed: Failed) -> GridError:
    """Return the error that the worker told of."""
    if failed.code is ErrorCode.CACHE_FULL:
        return CacheFull(failed.wanted_tokens, failed.limit_tokens)
    if failed.code is ErrorCode.CONTEXT_FULL:
        return ContextFull(failed.wanted_tokens, failed.limit_tokens)
    return _SIMPLE_ERRORS.get(failed.code, EngineFailed)(failed.text)


class EngineLink:
    """Sends requests to one worker and hands its answers out. Make one with `open`.

    Args:
        on_progress: Hears how far loading is.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_progress = on_progress
        self._waiting: dict[int, asyncio.Future[tuple[EngineMessage, bytes]]] = {}
        self._number = 0
        self._room = asyncio.Semaphore(MAX_REQUESTS_UNDER_WAY)
        self._error: EngineLost | None = None

    @classmethod
    async def open(cls, sock: socket.socket, *, on_progress: Callable[[Progress], None]) -> Self:
        """Take over `sock`, this end of the pair."""
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=_READ_BYTES)
        return cls(reader, writer, on_progress=on_progress)

    async def run(self) -> None:
        """Hand answers out until the worker closes its end."""
        decoder = FrameDecoder()
        try:
            while data := await self._reader.read(_READ_BYTES):
                for frame in decoder.receive_data(data):
                    self._take(frame)
        except ConnectionError:
            pass  # the same as an end: whoever waits for the process says how it ended

    async def request(
        self, request: Request, answer: type[A], body: bytes | memoryview = b""
    ) -> tuple[A, bytes]:
        """Send `request` and return its answer with the body.

        Cancelling is safe: the answer is dropped; a step that the worker has not finished ends early, and
        a gradient that it has not begun is not computed.

        Raises:
            EngineLost: the worker is gone, or goes before it answers.
            GridError: whatever the worker answered instead.
        """
        async with self._room:
            if self._error is not None:
                raise self._error
            number, self._number = self._number, self._number + 1
            waiting: asyncio.Future[tuple[EngineMessage, bytes]] = asyncio.get_running_loop().create_future()
            self._waiting[number] = waiting
            try:
                self._write(encode_message(replace(request, number=number), body))
                with contextlib.suppress(ConnectionError):  # `lose` follows, and says more
                    await self._writer.drain()
                message, answer_body = await waiting
            except asyncio.CancelledError:
                if isinstance(request, StepRequest | BackwardRequest) and self._error is None:
                    self._write(encode_message(Cancel(number=number)))
                raise
            finally:
                del self._waiting[number]
        if isinstance(message, Failed):
            raise error_of(message)
        if not isinstance(message, answer):
            raise ProtocolError(f"the engine worker answered {type(message).__name__}, not {answer.__name__}")
        return message, answer_body

    async def lose(self, error: EngineLost) -> None:
        """Close this end; requests under way and later ones raise `error`."""
        self._error = error
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)
        await self.aclose()

    async def aclose(self) -> None:
        """Close this end; the worker ends when it notices. Safe to call more than once."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def _write(self, frame: Frame) -> None:
        for piece in encode_frame(frame):
            self._writer.write(piece)

    def _take(self, frame: Frame) -> None:
        message = decode_engine_message(frame)
        if isinstance(message, Progress):
            self._on_progress(message)
            return
        waiting = self._waiting.get(message.number)
        if waiting is not None and not waiting.done():
            waiting.set_result((message, bytes(frame.body)))
