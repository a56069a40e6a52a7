"""The engine worker, `python -m gridnode.engine.worker FD`: loads a span and computes until its socket ends.

One thread, no event loop. Everything that waits in the socket is read between two chunks of computing, so
that leases open and close, and steps are cancelled, while the prompt of somebody else is computed.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator

import psutil

from gridnode.engine.block_cache import shrink_block_cache
from gridnode.engine.engine import Engine
from gridnode.engine.lease_line import LeaseLine
from gridnode.engine.requests import (
    BackwardRequest,
    Cancel,
    CloseLease,
    EngineMessage,
    Failed,
    Load,
    OpenLease,
    Progress,
    StepRequest,
    decode_engine_message,
    failed_answer,
)
from gridnode.engine.step_queue import StepQueue, StepRun
from gridnode.errors import ConnectionClosed, ErrorCode, GridError, NoCapacity, ProtocolError
from gridnode.logs import apply_inherited_plan
from gridnode.units import MIB
from gridnode.wire.codec import encode_message
from gridnode.wire.frames import Frame, FrameDecoder, encode_frame

logger = logging.getLogger("gridnode.engine.worker")

_READ_BYTES = 1 * MIB
_PR_SET_PDEATHSIG = 1
# Each holds up to one frame; who trains through a busy node shall hear that it is busy.
MAX_TRAINING_WAITING = 16


class Worker:
    """Reads requests from a socket and answers them."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._selector = selectors.DefaultSelector()  # unlike `select`, for any number of descriptor
        self._selector.register(sock, selectors.EVENT_READ)
        self._decoder = FrameDecoder()
        self._queue = StepQueue()
        self._line = LeaseLine()
        self._training: deque[tuple[BackwardRequest, bytes]] = deque()
        self._engine: Engine | None = None
        self._is_open = True

    def run(self) -> None:
        """Answer requests until the node closes its end."""
        while self._is_open:
            for frame in self._read(wait=not (self._queue or self._training)):
                self._take(frame)
            if self._engine is not None and self._line:
                self._open_waiting(self._engine)
            if self._engine is not None and self._queue:
                self._take_turn(self._engine)
            elif self._engine is not None and self._training:
                self._train(self._engine)

    def _read(self, *, wait: bool) -> list[Frame]:
        """Return what has arrived; if `wait`, wait for something, or until a lease has waited enough."""
        frames: list[Frame] = []
        longest_s = self._line.next_deadline_s()
        while self._is_open and self._selector.select(longest_s if wait else 0):
            wait = False
            try:
                data = self._sock.recv(_READ_BYTES)
            except ConnectionResetError:
                data = b""  # the node went away with answers of ours unread
            if not data:
                self._is_open = False  # nobody is left to answer
                return []
            frames.extend(self._decoder.receive_data(data))
        return frames

    def _take(self, frame: Frame) -> None:
        """Answer a request, or put a step where it waits for its turn."""
        number = frame.header.get("number")
        with self._answering_errors(number if isinstance(number, int) and number >= 0 else 0):
            request = decode_engine_message(frame)
            if isinstance(request, Load):
                self._send(self._load(request))
            elif self._engine is None:
                raise NoCapacity("nothing is loaded yet")
            elif isinstance(request, StepRequest):
                self._queue.add(StepRun(request, frame.body))
            elif isinstance(request, BackwardRequest):
                if len(self._training) >= MAX_TRAINING_WAITING:
                    raise NoCapacity(f"{len(self._training)} gradients wait to be computed here already")
                self._training.append((request, bytes(frame.body)))
            elif isinstance(request, Cancel):
                self._cancel(request.number)
            elif isinstance(request, OpenLease):
                self._open(self._engine, request, frame)
            elif isinstance(request, CloseLease):
                self._line.drop(request.lease)
                self._send(self._engine.handle(request))
                self._drop_steps(request.lease)
            else:
                raise ProtocolError(f"{type(request).__name__} is no request")

    def _cancel(self, number: int) -> None:
        """Forget the step or gradient with this number, if it still waits."""
        run = self._queue.find(number)
        if run is not None:
            self._queue.remove(run)
        self._training = deque(waiting for waiting in self._training if waiting[0].number != number)

    def _open(self, engine: Engine, request: OpenLease, frame: Frame) -> None:
        if request.wait_s and (self._line or not engine.has_room(request)):
            self._line.add(request, bytes(frame.body))
        else:
            self._send(engine.handle(request, frame.body))

    def _open_waiting(self, engine: Engine) -> None:
        """Open the leases for which there is room now; refuse those that have waited enough."""
        while (waiting := self._line.take(engine.has_room)) is not None:
            with self._answering_errors(waiting.request.number):
                self._send(engine.handle(waiting.request, waiting.body))

    def _drop_steps(self, lease: int) -> None:
        for run in self._queue.drop_lease(lease):
            error = ConnectionClosed(f"lease {lease} was closed while a step of it waited")
            self._send(failed_answer(run.request.number, error))

    def _take_turn(self, engine: Engine) -> None:
        """Compute one chunk of the steps whose turn it is; answer those that end with it."""
        ready = []
        for run in self._queue.next_turn():
            with self._answering_errors(run.request.number, run):
                engine.prepare(run)
                ready.append(run)
        started_at = time.monotonic()
        if len(ready) > 1:
            try:
                engine.compute(ready)
            except Exception:
                # One of them is at fault. Alone it fails alone.
                logger.exception("a batch of %d steps failed; computing them one by one", len(ready))
                self._compute_alone(engine, ready)
        else:
            self._compute_alone(engine, ready)
        self._queue.turn_ended(ready, time.monotonic() - started_at)
        for run in ready:
            if run.is_done:
                with self._answering_errors(run.request.number, run):
                    answer, body = engine.finish(run)
                    self._send(answer, body)
                    self._queue.remove(run)

    def _train(self, engine: Engine) -> None:
        """Compute one gradient: only while nobody waits for tokens."""
        request, body = self._training.popleft()
        with self._answering_errors(request.number):
            self._send(*engine.backward(request, body))

    def _compute_alone(self, engine: Engine, runs: list[StepRun]) -> None:
        for run in runs:
            with self._answering_errors(run.request.number, run):
                engine.compute([run])

    @contextlib.contextmanager
    def _answering_errors(self, number: int, run: StepRun | None = None) -> Iterator[None]:
        """Answer request `number` with the error that is raised inside, which ends its step `run`."""
        try:
            yield
            return
        except GridError as exc:
            answer = failed_answer(number, exc)
        except Exception as exc:
            # The edge of everything that a session can send: one bad step must not end the others.
            logger.exception("request %d failed", number)
            answer = Failed(
                number=number, code=ErrorCode.ENGINE_FAILED, text=f"{type(exc).__name__}: {exc}"[:500]
            )
        if run is not None:
            self._queue.remove(run)
        self._send(answer)

    def _load(self, request: Load) -> EngineMessage:
        started_at = time.perf_counter()

        def report(loaded_blocks: int) -> None:
            total_blocks = len(request.config.span)
            self._send(
                Progress(number=request.number, loaded_blocks=loaded_blocks, total_blocks=total_blocks)
            )

        self._engine = Engine(request.config, on_progress=report)
        self._queue = StepQueue(chunk_tokens=request.config.prefill_chunk_tokens)
        load_s = time.perf_counter() - started_at
        if request.config.block_cache_bytes is not None:
            shrink_block_cache(request.config.block_cache_bytes)
        logger.info("loaded blocks %s of %s in %.1f s", request.config.span, request.config.location, load_s)
        return self._engine.describe(
            request.number,
            load_s=load_s,
            resident_bytes=psutil.Process().memory_info().rss,
        )

    def _send(self, message: EngineMessage, body: bytes = b"") -> None:
        try:
            self._sock.sendall(b"".join(encode_frame(encode_message(message, body))))
        except (BrokenPipeError, ConnectionResetError):
            self._is_open = False


def _die_with_parent() -> None:
    """Ask Linux to end this process with the node, even a killed one; elsewhere the socket's end does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Run a worker on the socket whose number is the only argument."""
    _die_with_parent()
    # Ctrl-C in a terminal reaches the whole process group; the node decides when its worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    apply_inherited_plan(os.environ)
    with contextlib.closing(socket.socket(fileno=int(sys.argv[1]))) as sock:
        Worker(sock).run()


if __name__ == "__main__":
    main()
