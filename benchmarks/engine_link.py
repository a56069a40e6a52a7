"""What the way to the engine worker and back costs: `python benchmarks/engine_link.py`.

A real worker process computes decode steps of one small random block; what a step takes beyond the worker's
own compute is the socket pair, the frames and waiting for the processor. The aim is 0.15 ms (p50).
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM

from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.engine.requests import EngineConfig
from gridnode.node.engine_supervisor import EngineState, EngineSupervisor
from gridnode.wire.tensors import TensorHeader

AIM_MS = 0.15
HIDDEN_SIZES = (576, 2048, 4096)
BLOCK = Span(1, 2)
WARM_UP_STEPS = 100


def make_model(directory: Path, hidden_size: int) -> None:
    """Write a random Llama of three blocks with hardly any feed-forward: its compute is not the question."""
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=hidden_size,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=hidden_size // 64,
        num_key_value_heads=1,
        max_position_embeddings=8192,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(directory)


async def measure(location: Path, hidden_size: int, num_steps: int) -> list[float]:
    """Return the milliseconds beside compute of each step."""
    changed = asyncio.Event()
    config = EngineConfig(
        location=str(location),
        span=BLOCK,
        quantization=QuantFormat.NONE,
        executor="torch",
        dtype="float32",
        num_threads=1,
    )
    engine = EngineSupervisor(config, on_change=changed.set)
    running = asyncio.create_task(engine.run())
    try:
        while engine.state is not EngineState.READY:
            changed.clear()
            await changed.wait()
        total_steps = num_steps + WARM_UP_STEPS
        lease = await engine.open_lease(BLOCK, batch=1, max_tokens=total_steps)
        tensor = TensorHeader("float32", (1, 1, hidden_size))
        body = np.zeros(tensor.shape, np.float32).tobytes()
        beside_ms = []
        for position in range(total_steps):
            started_at = time.perf_counter()
            output = await engine.step(lease, body, tensor, position=position, output="hidden")
            beside_ms.append((time.perf_counter() - started_at - output.compute_s) * 1e3)
        return beside_ms[WARM_UP_STEPS:]
    finally:
        running.cancel()
        await asyncio.wait([running])


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000, help="timed decode steps per hidden size")
    arguments = parser.parse_args()
    table = Table(title=f"Node to engine worker and back, milliseconds beside compute (aim: {AIM_MS:g} p50)")
    for column in ("hidden size", "p10", "p50", "p99"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as scratch:
        for hidden_size in HIDDEN_SIZES:
            directory = Path(scratch) / str(hidden_size)
            make_model(directory, hidden_size)
            times = asyncio.run(measure(directory, hidden_size, arguments.steps))
            quantiles = statistics.quantiles(times, n=100)
            table.add_row(str(hidden_size), *(f"{quantiles[p - 1]:.3f}" for p in (10, 50, 99)))
    Console().print(table)


if __name__ == "__main__":
    main()
