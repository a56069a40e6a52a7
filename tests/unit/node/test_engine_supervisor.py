"""The supervisor beside a worker that only refuses."""

from __future__ import annotations

import asyncio
import socket

import pytest

from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.engine.requests import EngineConfig, Failed
from gridnode.errors import ErrorCode
from gridnode.node import engine_supervisor
from gridnode.node.engine_supervisor import EngineState, EngineSupervisor
from gridnode.wire.codec import encode_message
from gridnode.wire.frames import encode_frame

CONFIG = EngineConfig(location="nowhere", span=Span(0, 1), quantization=QuantFormat.NONE)


class RefusingWorker:
    """Answers that it cannot load, and ends."""

    pid = 1
    returncode = 1

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock.dup()

    def refuse(self) -> None:
        answer = Failed(number=0, code=ErrorCode.INTERNAL, text="it failed")
        self._sock.sendall(b"".join(encode_frame(encode_message(answer))))
        self._sock.close()

    async def wait(self) -> int:
        return self.returncode


# How long the refusal takes through socket, reader, request and task group, in rounds of the event loop.
@pytest.mark.parametrize("rounds", range(12))
def test_a_supervisor_ends_whenever_it_is_cancelled(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11's task groups forget a cancellation that comes while they end with an error."""
    workers: list[RefusingWorker] = []

    async def spawn(sock: socket.socket) -> RefusingWorker:
        workers.append(RefusingWorker(sock))
        return workers[-1]

    monkeypatch.setattr(engine_supervisor, "_spawn", spawn)

    async def scenario() -> None:
        loading = asyncio.Event()

        def note() -> None:
            if supervisor.state is EngineState.LOADING:
                loading.set()

        supervisor = EngineSupervisor(CONFIG, on_change=note)
        running = asyncio.create_task(supervisor.run())
        await loading.wait()
        workers[0].refuse()
        for _ in range(rounds):
            await asyncio.sleep(0)
        running.cancel()
        # Who forgets it starts another worker after half a second.
        await asyncio.wait([running], timeout=10)
        is_done = running.done()
        running.cancel()
        await asyncio.wait([running])
        assert is_done
        assert len(workers) == 1

    asyncio.run(scenario())
