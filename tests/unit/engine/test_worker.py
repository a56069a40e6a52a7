"""A worker in a thread, spoken to through its socket; its process is in tests/integration."""

from __future__ import annotations

import contextlib
import fcntl
import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gridnode.core.spans import Span
from gridnode.engine.engine import Engine
from gridnode.engine.requests import (
    BackwardRequest,
    Cancel,
    CloseLease,
    EngineConfig,
    EngineMessage,
    Failed,
    LeaseClosed,
    LeaseOpened,
    Load,
    Loaded,
    OpenLease,
    Progress,
    StepAnswer,
    StepRequest,
    decode_engine_message,
)
from gridnode.engine.step_queue import StepRun
from gridnode.engine.worker import MAX_TRAINING_WAITING, Worker
from gridnode.errors import ErrorCode
from gridnode.wire.codec import TypedMessage, encode_message
from gridnode.wire.frames import Frame, FrameDecoder, encode_frame
from gridnode.wire.tensors import TensorHeader

WHOLE = Span(0, 4)


class Node:
    """The other end of a worker's socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._decoder = FrameDecoder()
        self._answers: list[EngineMessage] = []

    def send(self, *messages: TypedMessage, body: bytes = b"") -> None:
        """Send all at once, so that the worker reads them together."""
        self.send_frames(*(encode_message(m, body if isinstance(m, StepRequest) else b"") for m in messages))

    def send_frames(self, *frames: Frame) -> None:
        self._sock.sendall(b"".join(piece for frame in frames for piece in encode_frame(frame)))

    def answer(self) -> EngineMessage:
        while not self._answers:
            data = self._sock.recv(65536)
            assert data, "the worker closed its socket"
            self._answers.extend(decode_engine_message(f) for f in self._decoder.receive_data(data))
        return self._answers.pop(0)

    def answers(self, count: int) -> list[EngineMessage]:
        return [self.answer() for _ in range(count)]


@contextlib.contextmanager
def running_worker() -> Iterator[Node]:
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    with theirs:
        thread = threading.Thread(target=Worker(theirs).run)
        thread.start()
        with ours:
            yield Node(ours)
        thread.join(timeout=10)
        assert not thread.is_alive()


@pytest.fixture
def node(tiny_llama: Path) -> Iterator[Node]:
    """A node whose worker holds the whole model, with leases 1 and 2 of 2000 tokens each."""
    config = EngineConfig(
        location=str(tiny_llama), span=WHOLE, cache_tokens=5000, num_threads=1, prefill_chunk_tokens=32
    )
    with running_worker() as node:
        node.send(Load(number=0, config=config))
        while isinstance(answer := node.answer(), Progress):
            pass
        assert isinstance(answer, Loaded)
        for lease in (1, 2):
            node.send(OpenLease(number=lease, lease=lease, span=WHOLE, batch=1, max_tokens=2000))
            assert isinstance(node.answer(), LeaseOpened)
        yield node


def step(number: int, lease: int, num_tokens: int, position: int = 0, **changes: Any) -> StepRequest:
    tensor = TensorHeader("int32", (1, num_tokens))
    fields = {"number": number, "lease": lease, "position": position, "tensor": tensor, "output": "token"}
    return StepRequest(**{**fields, **changes})


def tokens(count: int) -> bytes:
    return np.ones(count, dtype="<i4").tobytes()


def frame(request: StepRequest) -> Frame:
    return encode_message(request, tokens(request.tensor.shape[1]))


def test_decode_steps_overtake_the_prompt_of_another_session(node: Node) -> None:
    node.send_frames(frame(step(10, 1, 1500)), frame(step(11, 2, 1)), frame(step(12, 2, 1, position=1)))
    assert [answer.number for answer in node.answers(3)] == [11, 12, 10]


def test_closing_a_lease_ends_its_prompt_between_two_chunks(node: Node) -> None:
    node.send_frames(frame(step(10, 1, 1500)), frame(step(11, 1, 1, position=1500)))
    node.send(CloseLease(number=12, lease=1))
    closed, first, second = node.answers(3)
    assert closed == LeaseClosed(number=12, free_cache_tokens=3000)
    for number, answer in ((10, first), (11, second)):
        assert isinstance(answer, Failed)
        assert (answer.number, answer.code) == (number, ErrorCode.CONNECTION_CLOSED)


def test_a_cancelled_step_is_not_answered(node: Node) -> None:
    node.send_frames(frame(step(10, 1, 1500)))
    node.send(Cancel(number=10), Cancel(number=99))
    node.send_frames(frame(step(11, 1, 1)))
    answer = node.answer()
    assert isinstance(answer, StepAnswer)
    assert answer.number == 11


def test_a_cancelled_gradient_gives_up_its_place(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []

    def backward(self: Engine, request: BackwardRequest, body: bytes) -> tuple[StepAnswer, bytes]:
        computed.append(request.number)
        found = StepAnswer(number=request.number, tensor=request.each, compute_s=0.0)
        return found, bytes(request.each.num_bytes)

    monkeypatch.setattr(Engine, "backward", backward)
    each = TensorHeader("float32", (1, 1, 64))
    abandoned = range(10, 10 + MAX_TRAINING_WAITING)
    node.send(
        *(BackwardRequest(number=number, span=WHOLE, each=each) for number in abandoned),
        *(Cancel(number=number) for number in abandoned),
        BackwardRequest(number=50, span=WHOLE, each=each),
    )
    answer = node.answer()
    assert isinstance(answer, StepAnswer)
    assert answer.number == 50
    assert computed == [50]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (encode_message(step(10, 1, 2), b"abc"), ErrorCode.PROTOCOL),
        (Frame(0x43, {"number": 10, "lease": 1, "position": -1}), ErrorCode.PROTOCOL),
        (Frame(0x43, {"number": 10}), ErrorCode.PROTOCOL),
        (Frame(0x7F, {"number": 10}), ErrorCode.PROTOCOL),
        (encode_message(Failed(number=10, code=ErrorCode.INTERNAL, text="")), ErrorCode.PROTOCOL),
        (frame(step(10, 1, 1, position=2**62)), ErrorCode.BAD_INPUT),
        (frame(step(10, 3, 1)), ErrorCode.BAD_INPUT),
        (encode_message(step(10, 1, 1, tensor=TensorHeader("int32", (1,))), tokens(1)), ErrorCode.BAD_INPUT),
        (encode_message(step(10, 1, 1, tensor=TensorHeader("int32", (0, 100)))), ErrorCode.BAD_INPUT),
        (encode_message(step(10, 1, 2001), tokens(2001)), ErrorCode.CONTEXT_FULL),
    ],
)
def test_a_broken_request_ends_alone(node: Node, bad: Frame, code: ErrorCode) -> None:
    node.send_frames(bad, frame(step(11, 2, 1)))
    by_number = {answer.number: answer for answer in node.answers(2)}
    failed, good = by_number[10], by_number[11]
    assert isinstance(failed, Failed)
    assert failed.code == code
    assert isinstance(good, StepAnswer)


def test_one_bad_step_of_a_batch_fails_alone(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    compute = Engine.compute

    def fail_with_lease_1(self: Engine, runs: list[StepRun]) -> None:
        if any(run.request.lease == 1 for run in runs):
            raise RuntimeError("a kernel does not like this")
        compute(self, runs)

    monkeypatch.setattr(Engine, "compute", fail_with_lease_1)
    node.send_frames(frame(step(10, 1, 1)), frame(step(11, 2, 1)))
    by_number = {answer.number: answer for answer in node.answers(2)}
    failed = by_number[10]
    assert isinstance(failed, Failed)
    assert (failed.code, failed.text) == (
        ErrorCode.ENGINE_FAILED,
        "RuntimeError: a kernel does not like this",
    )
    assert isinstance(by_number[11], StepAnswer)


def test_the_number_of_the_descriptor_does_not_matter() -> None:
    """A node with a thousand connections gives its worker a high one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    try:
        ours, low = socket.socketpair()
        with ours, low, socket.socket(fileno=fcntl.fcntl(low.fileno(), fcntl.F_DUPFD, 2000)) as theirs:
            thread = threading.Thread(target=Worker(theirs).run)
            thread.start()
            ours.settimeout(60)
            node = Node(ours)
            node.send(Cancel(number=1))
            assert isinstance(node.answer(), Failed)  # nothing is loaded yet
            ours.shutdown(socket.SHUT_RDWR)
            thread.join(timeout=10)
            assert not thread.is_alive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_nothing_is_computed_before_a_span_is_loaded(tmp_path: Path) -> None:
    with running_worker() as node:
        node.send(OpenLease(number=4, lease=1, span=WHOLE, batch=1, max_tokens=1))
        answer = node.answer()
        assert isinstance(answer, Failed)
        assert (answer.number, answer.code) == (4, ErrorCode.NO_CAPACITY)
        node.send(Load(number=5, config=EngineConfig(location=str(tmp_path / "nowhere"), span=WHOLE)))
        answer = node.answer()
        assert isinstance(answer, Failed)
        assert (answer.number, answer.code) == (5, ErrorCode.BAD_CHECKPOINT)


def test_a_worker_ends_with_its_socket_in_the_middle_of_a_prompt(node: Node) -> None:
    node.send_frames(frame(step(10, 1, 1900)))


def opening(lease: int, max_tokens: int, wait_s: float) -> OpenLease:
    return OpenLease(
        number=100 + lease, lease=lease, span=WHOLE, batch=1, max_tokens=max_tokens, wait_s=wait_s
    )


def test_a_lease_that_may_wait_is_opened_when_another_one_ends(node: Node) -> None:
    free = free_tokens(node)
    node.send(opening(8, free, 0.0), opening(9, free, 60.0), opening(10, free, 60.0))
    assert isinstance(node.answer(), LeaseOpened)
    # Steps of others go on meanwhile, and who does not wait is refused at once.
    node.send_frames(frame(step(10, 1, 1)))
    node.send(opening(11, 5, 0.0))
    assert {type(answer) for answer in node.answers(2)} == {StepAnswer, Failed}
    node.send(CloseLease(number=1, lease=10), CloseLease(number=2, lease=8))
    assert [answer.number for answer in node.answers(3)] == [1, 2, 109]
    node.send(CloseLease(number=3, lease=9))
    closed = node.answer()
    assert isinstance(closed, LeaseClosed)
    assert closed.free_cache_tokens == free


def test_a_lease_that_has_waited_enough_is_refused_with_numbers(node: Node) -> None:
    free = free_tokens(node)
    node.send(opening(9, free + 1, 0.05))
    refused = node.answer()
    assert isinstance(refused, Failed)
    assert (refused.code, refused.wanted_tokens, refused.limit_tokens) == (
        ErrorCode.CACHE_FULL,
        free + 1,
        free,
    )


def free_tokens(node: Node) -> int:
    node.send(CloseLease(number=99, lease=99))
    answer = node.answer()
    assert isinstance(answer, LeaseClosed)
    return answer.free_cache_tokens
