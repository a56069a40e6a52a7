"""The engine worker, `python -m gridnode.engine.worker FD`: loads a span and computes until its socket ends.

One thread, no event loop. Everything that waits in the socket is read before the next step is computed,
so that a lease is opened or closed between the steps of others.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator

import psutil

from gridnode.engine.engine import Engine
from gridnode.engine.requests import (
    EngineMessage,
    Failed,
    Load,
    Progress,
    Request,
    decode_engine_message,
)
from gridnode.errors import CacheFull, ContextFull, ErrorCode, GridError
from gridnode.logs import configure_logging
from gridnode.units import MIB
from gridnode.wire.codec import encode_message
from gridnode.wire.frames import Frame, FrameDecoder, encode_frame

logger = logging.getLogger("gridnode.engine.worker")

_READ_BYTES = 1 * MIB
_PR_SET_PDEATHSIG = 1


class Worker:
    """Reads requests from a socket and answers them, one after another."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._decoder = FrameDecoder()
        self._waiting: deque[Frame] = deque()
        self._engine: Engine | None = None
        self._is_open = True

    def run(self) -> None:
        """Answer requests until the node closes its end."""
        while self._is_open or self._waiting:
            self._read(wait=not self._waiting)
            if self._waiting:
                self._handle(self._waiting.popleft())

    def _read(self, *, wait: bool) -> None:
        """Take what has arrived; if `wait`, wait for something first."""
        while self._is_open and select.select([self._sock], [], [], None if wait else 0)[0]:
            wait = False
            try:
                data = self._sock.recv(_READ_BYTES)
            except ConnectionResetError:
                data = b""  # the node went away with answers of ours unread
            if not data:
                self._is_open = False
                self._waiting.clear()  # nobody is left to answer
                return
            self._waiting.extend(self._decoder.receive_data(data))

    def _handle(self, frame: Frame) -> None:
        request = decode_engine_message(frame)
        assert isinstance(request, Request)
        try:
            for answer, body in self._answers(request, frame):
                self._send(answer, body)
        except GridError as exc:
            self._send(failed(request.number, exc))
        except Exception as exc:
            # The edge of everything a session can send: one bad step must not end the others.
            logger.exception("%s failed", type(request).__name__)
            text = f"{type(exc).__name__}: {exc}"[:500]
            self._send(Failed(number=request.number, code=ErrorCode.ENGINE_FAILED, text=text))

    def _answers(self, request: Request, frame: Frame) -> Iterator[tuple[EngineMessage, bytes]]:
        if isinstance(request, Load):
            yield self._load(request), b""
        elif self._engine is None:
            yield Failed(number=request.number, code=ErrorCode.NO_CAPACITY, text="nothing is loaded yet"), b""
        else:
            yield self._engine.handle(request, frame.body)

    def _load(self, request: Load) -> EngineMessage:
        started_at = time.perf_counter()

        def report(loaded_blocks: int) -> None:
            total_blocks = len(request.config.span)
            self._send(
                Progress(number=request.number, loaded_blocks=loaded_blocks, total_blocks=total_blocks)
            )

        self._engine = Engine(request.config, on_progress=report)
        return self._engine.describe(
            request.number,
            load_s=time.perf_counter() - started_at,
            resident_bytes=psutil.Process().memory_info().rss,
        )

    def _send(self, message: EngineMessage, body: bytes = b"") -> None:
        try:
            self._sock.sendall(b"".join(encode_frame(encode_message(message, body))))
        except (BrokenPipeError, ConnectionResetError):
            self._is_open = False
            self._waiting.clear()


def failed(number: int, error: GridError) -> Failed:
    """Return what the node needs to raise `error` again."""
    wanted, limit = 0, 0
    if isinstance(error, CacheFull):
        wanted, limit = error.wanted_tokens, error.free_tokens
    elif isinstance(error, ContextFull):
        wanted, limit = error.wanted_tokens, error.limit_tokens
    return Failed(number=number, code=error.code, text=str(error), wanted_tokens=wanted, limit_tokens=limit)


def _die_with_parent() -> None:
    """Ask Linux to end this process with the node, even a killed one; elsewhere the socket's end does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Run a worker on the socket whose number is the only argument."""
    _die_with_parent()
    # Ctrl-C in a terminal reaches the whole process group; the node decides when its worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure_logging(os.environ.get("GRIDNODE_LOG_LEVEL", "INFO"))
    with contextlib.closing(socket.socket(fileno=int(sys.argv[1]))) as sock:
        Worker(sock).run()


if __name__ == "__main__":
    main()
