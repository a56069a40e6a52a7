"""A session gets the same tokens alone and among others that join and leave at random."""

import random
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.engine.executor import Array, SpanExecutor, SpanStep
from gridnode.engine.requests import (
    CloseLease,
    EngineConfig,
    EngineMessage,
    Load,
    Loaded,
    OpenLease,
    Progress,
    StepAnswer,
    StepRequest,
    decode_engine_message,
)
from gridnode.engine.worker import Worker
from gridnode.wire.codec import TypedMessage, encode_message
from gridnode.wire.frames import FrameDecoder, encode_frame
from gridnode.wire.tensors import TensorHeader

WHOLE = Span(0, 4)
PROMPT = [5, 17, 3, 99, 42, 7]
NUM_TOKENS = 24
NUM_NEIGHBOURS = 8


class Watched:
    """An executor that writes down how many steps were computed together."""

    def __init__(self, executor: SpanExecutor) -> None:
        self._executor = executor
        self.together: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._executor, name)

    def compute(self, steps: Sequence[SpanStep]) -> list[Array | None]:
        self.together.append(len(steps))
        return self._executor.compute(steps)


class Client:
    """Sessions with one worker, whose steps are sent together and answered in any order."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._decoder = FrameDecoder()
        self._number = 0

    def ask(self, requests: Sequence[tuple[TypedMessage, bytes]]) -> dict[int, tuple[EngineMessage, bytes]]:
        """Send `requests` at once; return all answers by their number."""
        self._sock.sendall(
            b"".join(
                piece for message, body in requests for piece in encode_frame(encode_message(message, body))
            )
        )
        found: dict[int, tuple[EngineMessage, bytes]] = {}
        while len(found) < len(requests):
            data = self._sock.recv(1 << 20)
            assert data, "the worker closed its socket"
            for frame in self._decoder.receive_data(data):
                answer = decode_engine_message(frame)
                if not isinstance(answer, Progress):
                    assert not type(answer).__name__.startswith("Failed"), answer
                    found[answer.number] = (answer, bytes(frame.body))
        return found

    def number(self) -> int:
        self._number += 1
        return self._number


class Session:
    """Greedy decoding on one lease."""

    def __init__(self, client: Client, lease: int, prompt: list[int]) -> None:
        self._client, self.lease, self._tokens = client, lease, list(prompt)
        self._position = 0
        self.chosen: list[int] = []
        self.logits: list[bytes] = []

    def opening(self) -> tuple[TypedMessage, bytes]:
        return OpenLease(
            number=self._client.number(), lease=self.lease, span=WHOLE, batch=1, max_tokens=96
        ), b""

    def closing(self) -> tuple[TypedMessage, bytes]:
        return CloseLease(number=self._client.number(), lease=self.lease), b""

    def step(self) -> tuple[StepRequest, bytes]:
        given = self._tokens[self._position :]
        request = StepRequest(
            number=self._client.number(),
            lease=self.lease,
            position=self._position,
            tensor=TensorHeader("int32", (1, len(given))),
            output="logits",
        )
        self._position = len(self._tokens)
        return request, np.array([given], dtype="<i4").tobytes()

    def take(self, answer: EngineMessage, body: bytes) -> None:
        assert isinstance(answer, StepAnswer)
        token = int(np.frombuffer(body, "<f4").argmax())
        self._tokens.append(token)
        self.chosen.append(token)
        self.logits.append(body)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("executor", "quantization"),
    [("onnx", QuantFormat.INT4), ("onnx", QuantFormat.INT8), ("torch", QuantFormat.NONE)],
)
def test_greedy_tokens_are_the_same_alone_and_in_company(
    executor: str,
    quantization: QuantFormat,
    seed: int,
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = EngineConfig(
        location=str(tiny_llama),
        span=WHOLE,
        executor=executor,  # type: ignore[arg-type] # one of its names
        quantization=quantization,
        num_threads=1,
    )
    ours, theirs = socket.socketpair()
    ours.settimeout(120)
    with theirs:
        worker = Worker(theirs)
        thread = threading.Thread(target=worker.run)
        thread.start()
        with ours:
            client = Client(ours)
            [(loaded, _)] = client.ask([(Load(number=0, config=config), b"")]).values()
            assert isinstance(loaded, Loaded)
            assert worker._engine is not None
            watched = Watched(worker._engine._executor)
            worker._engine._executor = watched  # type: ignore[assignment] # passes everything on
            alone = decode(client, Session(client, 1, PROMPT), random.Random(seed), num_neighbours=0)
            assert set(watched.together) == {1}
            among = decode(
                client, Session(client, 2, PROMPT), random.Random(seed), num_neighbours=NUM_NEIGHBOURS
            )
        thread.join(timeout=60)
    assert among.chosen == alone.chosen
    assert among.logits == alone.logits  # the bits, too
    assert max(watched.together) > NUM_NEIGHBOURS // 2


def decode(client: Client, session: Session, chance: random.Random, *, num_neighbours: int) -> Session:
    """Let `session` choose tokens while neighbours come, send prompts and steps, and go."""
    client.ask([session.opening()])
    neighbours: list[Session | None] = [None] * num_neighbours
    lease = 100
    while len(session.chosen) < NUM_TOKENS:
        requests: list[tuple[TypedMessage, bytes]] = []
        stepping = []
        for place, neighbour in enumerate(neighbours):
            if neighbour is None and chance.random() < 0.5:
                lease += 1
                prompt = [chance.randrange(250) for _ in range(chance.choice([1, 2, 5, 30]))]
                neighbour = neighbours[place] = Session(client, lease, prompt)
                requests.append(neighbour.opening())
            elif neighbour is not None and chance.random() < 0.15:
                requests.append(neighbour.closing())
                neighbours[place] = None
                continue
            if neighbour is not None and chance.random() < 0.8 and len(neighbour.chosen) < 60:
                stepping.append(neighbour)
        stepping.insert(chance.randint(0, len(stepping)), session)
        steps = [each.step() for each in stepping]
        answers = client.ask([*requests, *steps])
        for each, (request, _) in zip(stepping, steps, strict=True):
            each.take(*answers[request.number])
    return session
