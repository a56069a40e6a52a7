"""Real engine workers, and what happens when they die."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from waiting import until

from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.engine.requests import EngineConfig
from gridnode.errors import (
    BadCheckpoint,
    BadInput,
    CacheFull,
    ConnectionClosed,
    ContextFull,
    EngineLost,
    ProtocolError,
)
from gridnode.node.engine_supervisor import EngineState, EngineSupervisor, StepOutput
from gridnode.wire.tensors import TensorHeader

pytestmark = pytest.mark.swarm

WHOLE = Span(0, 4)
TOTAL_TOKENS = 1000
START_TIMEOUT_S = 60.0


def config(model: Path) -> EngineConfig:
    return EngineConfig(
        location=str(model),
        span=WHOLE,
        quantization=QuantFormat.NONE,
        executor="torch",
        cache_tokens=TOTAL_TOKENS,
        num_threads=1,
        prefill_chunk_tokens=16,
    )


@contextlib.asynccontextmanager
async def supervised(model: Path) -> AsyncIterator[EngineSupervisor]:
    supervisor = EngineSupervisor(config(model), on_change=lambda: None)
    running = asyncio.create_task(supervisor.run())
    try:
        await until(lambda: supervisor.state is EngineState.READY, timeout_s=START_TIMEOUT_S)
        yield supervisor
    finally:
        pid = supervisor.pid
        running.cancel()
        await asyncio.wait([running])
        assert supervisor.state is EngineState.STOPPED
        assert pid is None or not psutil.pid_exists(pid)


async def run_tokens(engine: EngineSupervisor, lease: int, token_ids: list[int], position: int) -> StepOutput:
    body = np.array([token_ids], dtype="<i4").tobytes()
    tensor = TensorHeader("int32", (1, len(token_ids)))
    return await engine.step(lease, body, tensor, position=position, output="token")


def test_a_worker_loads_computes_and_ends_with_its_node(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with supervised(tiny_llama) as engine:
            assert engine.loaded is not None
            assert engine.loaded.text_dir == str(tiny_llama)
            lease = await engine.open_lease(WHOLE, batch=1, max_tokens=100)
            assert engine.free_cache_tokens == TOTAL_TOKENS - 100
            output = await run_tokens(engine, lease, [1, 2, 3], 0)
            assert len(output.body) == 4
            assert output.compute_s > 0
            with pytest.raises(CacheFull, match="cannot lease 901 tokens of KV cache, 900 are free"):
                await engine.open_lease(WHOLE, batch=1, max_tokens=901)
            with pytest.raises(ContextFull, match="101 tokens do not fit into a context of 100"):
                await run_tokens(engine, lease, [1] * 98, 3)
            await engine.close_lease(lease)
            await engine.close_lease(lease)
            assert engine.free_cache_tokens == TOTAL_TOKENS

    asyncio.run(scenario())


def test_a_killed_worker_gives_a_clear_error_and_returns(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with supervised(tiny_llama) as engine:
            lease = await engine.open_lease(WHOLE, batch=1, max_tokens=900)
            pid = engine.pid
            assert pid is not None
            under_way = asyncio.create_task(run_tokens(engine, lease, [1] * 900, 0))
            await asyncio.sleep(0)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(EngineLost, match=rf"pid {pid}\) was killed by SIGKILL .*--blocks"):
                await under_way
            await until(lambda: engine.state is EngineState.RESTARTING)
            assert "restarting in 0.5 s" in engine.detail
            with pytest.raises(EngineLost, match="restarting"):
                await engine.open_lease(WHOLE, batch=1, max_tokens=10)
            await until(lambda: engine.state is EngineState.READY, timeout_s=START_TIMEOUT_S)
            assert engine.pid not in (None, pid)
            assert engine.num_restarts == 1
            assert engine.free_cache_tokens == TOTAL_TOKENS
            with pytest.raises(EngineLost, match="restarted since this session began"):
                await run_tokens(engine, lease, [1], 0)
            await engine.close_lease(lease)
            lease = await engine.open_lease(WHOLE, batch=1, max_tokens=10)
            assert len((await run_tokens(engine, lease, [1], 0)).body) == 4

    asyncio.run(scenario())


def test_cancelled_requests_leave_nothing_behind(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with supervised(tiny_llama) as engine:
            lease = await engine.open_lease(WHOLE, batch=1, max_tokens=500)
            expected = await run_tokens(engine, lease, [1, 2, 3], 0)
            for request in (
                run_tokens(engine, lease, [5] * 400, 3),
                engine.open_lease(WHOLE, batch=1, max_tokens=100),
            ):
                task = asyncio.create_task(request)  # type: ignore[arg-type]
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled()
            again = await run_tokens(engine, lease, [1, 2, 3], 0)
            assert again.body == expected.body
            await engine.close_lease(lease)
            assert engine.free_cache_tokens == TOTAL_TOKENS

    asyncio.run(scenario())


def test_a_broken_step_hurts_nobody_else(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with supervised(tiny_llama) as engine:
            pid = engine.pid
            lease = await engine.open_lease(WHOLE, batch=1, max_tokens=100)
            expected = await run_tokens(engine, lease, [1, 2, 3], 0)
            header = TensorHeader("int32", (1, 2))
            with pytest.raises(ProtocolError, match="8 bytes, the frame brought 3"):
                await engine.step(lease, b"abc", header, position=0, output="token")
            with pytest.raises(ProtocolError, match="position"):
                await engine.step(lease, bytes(8), header, position=-1, output="token")
            with pytest.raises(BadInput, match="history of 5000 tokens, at most 4096"):
                await engine.step(lease, bytes(8), header, position=0, output="token", history=(1,) * 5000)
            assert (await run_tokens(engine, lease, [1, 2, 3], 0)).body == expected.body
            assert engine.pid == pid
            await engine.close_lease(lease)

    asyncio.run(scenario())


def test_a_prompt_does_not_hold_up_others_nor_its_own_end(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with supervised(tiny_llama) as engine:
            long, short = [await engine.open_lease(WHOLE, batch=1, max_tokens=400) for _ in range(2)]
            prompt = asyncio.create_task(run_tokens(engine, long, [1] * 400, 0))
            await asyncio.sleep(0)
            await run_tokens(engine, short, [1], 0)
            assert not prompt.done()
            await engine.close_lease(long)
            with pytest.raises(ConnectionClosed, match="was closed while a step of it waited"):
                await prompt
            assert engine.free_cache_tokens == TOTAL_TOKENS - 400
            await engine.close_lease(short)

    asyncio.run(scenario())


def test_a_worker_that_cannot_be_started_is_tried_again(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
        supervisor = EngineSupervisor(config(tiny_llama), on_change=lambda: None)
        running = asyncio.create_task(supervisor.run())
        await until(lambda: supervisor.state is EngineState.RESTARTING)
        assert "cannot be started: No such file" in supervisor.detail
        monkeypatch.undo()
        await until(lambda: supervisor.state is EngineState.READY, timeout_s=START_TIMEOUT_S)
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(scenario())


def test_a_span_that_cannot_be_loaded_fails_once_and_for_all(tiny_llama: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(tiny_llama, tmp_path / "broken"))
    file = broken / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])

    async def scenario() -> None:
        states = []
        supervisor = EngineSupervisor(config(broken), on_change=lambda: states.append(supervisor.state))
        with pytest.raises(BadCheckpoint, match=r"model\.safetensors \(1000 bytes\)"):
            await supervisor.run()
        assert supervisor.state is EngineState.FAILED
        assert EngineState.RESTARTING not in states

    asyncio.run(scenario())


def test_a_worker_does_not_outlive_a_killed_node(tiny_llama: Path) -> None:
    program = """
import asyncio, sys
from gridnode.core.spans import Span
from gridnode.engine.requests import EngineConfig
from gridnode.node.engine_supervisor import EngineSupervisor

supervisor = EngineSupervisor(
    EngineConfig(location=sys.argv[1], span=Span(0, 4), num_threads=1),
    on_change=lambda: print(supervisor.state, supervisor.pid, flush=True),
)
asyncio.run(supervisor.run())
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tiny_llama)], stdout=subprocess.PIPE, text=True
    ) as node:
        assert node.stdout is not None
        ready = next(line for line in node.stdout if line.startswith("ready"))
        worker = psutil.Process(int(ready.split()[1]))
        node.kill()
        worker.wait(timeout=10)
