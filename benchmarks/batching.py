"""What company costs: `python benchmarks/batching.py`.

A random Llama in the shape of 1B parameters, whole, int4, in this process, driven as an engine worker does.
The first table is of sessions that decode together; the second of the times that steps of eight such sessions
take, alone and while a ninth brings a long prompt.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from random_llama import write_safetensors
from rich.console import Console
from rich.table import Table

from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.engine.engine import Engine
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.requests import CloseLease, EngineConfig, OpenLease, StepRequest
from gridnode.engine.step_queue import StepQueue, StepRun
from gridnode.wire.tensors import TensorHeader

SESSIONS = (1, 2, 4, 8, 16)
PROMPT_TOKENS = 128
LONG_PROMPT_TOKENS = 2048
LEASE_TOKENS = 512


@dataclass(slots=True)
class Session:
    """One that decodes greedily, and whose next step comes as soon as it has a token."""

    lease: int
    position: int = 0
    token_id: int = 7
    sent_at: float = 0.0
    step_times_s: list[float] = field(default_factory=list)


class Bench:
    """An engine with its queue, as the worker has them, and clients that answer at once."""

    def __init__(self, location: str, num_threads: int, quantization: str) -> None:
        self.whole = Span(0, open_checkpoint(location).facts.num_blocks)
        config = EngineConfig(
            location=location,
            span=self.whole,
            quantization=QuantFormat(quantization),
            executor="onnx",
            cache_tokens=max(SESSIONS) * LEASE_TOKENS + LONG_PROMPT_TOKENS,
            num_threads=num_threads,
        )
        self.engine = Engine(config, on_progress=lambda _: None)
        self.queue = StepQueue(chunk_tokens=config.prefill_chunk_tokens)
        self._numbers = count()
        self._sessions: dict[int, Session] = {}

    def open(self, lease: int, max_tokens: int) -> Session:
        """Open a session."""
        self.engine.handle(OpenLease(number=0, lease=lease, span=self.whole, batch=1, max_tokens=max_tokens))
        self._sessions[lease] = Session(lease)
        return self._sessions[lease]

    def close(self) -> None:
        """End all sessions and what waits of them."""
        for lease in self._sessions:
            self.engine.handle(CloseLease(number=0, lease=lease))
            self.queue.drop_lease(lease)
        self._sessions.clear()

    def send(self, session: Session, token_ids: list[int]) -> None:
        """Let a step of `session` wait for its turn."""
        request = StepRequest(
            number=next(self._numbers),
            lease=session.lease,
            position=session.position,
            tensor=TensorHeader("int32", (1, len(token_ids))),
            output="token",
        )
        session.position += len(token_ids)
        session.sent_at = time.perf_counter()
        self.queue.add(StepRun(request, np.array([token_ids], dtype="<i4").tobytes()))

    def take_turn(self) -> list[Session]:
        """Compute a turn as the worker does; return the sessions that have a token."""
        turn = self.queue.next_turn()
        for run in turn:
            self.engine.prepare(run)
        started_at = time.monotonic()
        self.engine.compute(turn)
        self.queue.turn_ended(turn, time.monotonic() - started_at)
        ended = []
        for run in turn:
            if run.is_done:
                _, body = self.engine.finish(run)
                self.queue.remove(run)
                session = self._sessions[run.request.lease]
                session.token_id = int(np.frombuffer(body, "<i4")[0])
                session.step_times_s.append(time.perf_counter() - session.sent_at)
                ended.append(session)
        return ended

    def decoding(self, num_sessions: int) -> list[Session]:
        """Open sessions that have answered their prompts; only single tokens follow."""
        sessions = [self.open(lease, LEASE_TOKENS) for lease in range(num_sessions)]
        for session in sessions:
            self.send(session, [(7 * i + session.lease) % 1000 for i in range(PROMPT_TOKENS)])
        while self.queue:
            self.take_turn()
        for session in sessions:
            session.step_times_s.clear()
            self.send(session, [session.token_id])
        return sessions

    def decode_until(self, is_over: Callable[[], bool]) -> None:
        """Answer every token of the sessions with the next step."""
        while not is_over():
            for session in self.take_turn():
                if session.position < LEASE_TOKENS:
                    self.send(session, [session.token_id])


def aggregate(bench: Bench, num_sessions: int, num_steps: int) -> tuple[float, float]:
    """Return tokens per second of all sessions together, and the median seconds of a step."""
    sessions = bench.decoding(num_sessions)
    bench.decode_until(lambda: len(sessions[0].step_times_s) >= num_steps)
    step_s = statistics.median(sessions[0].step_times_s)
    bench.close()
    return num_sessions / step_s, step_s


def beside_a_prompt(bench: Bench, num_sessions: int, num_steps: int, *, with_prompt: bool) -> dict[str, Any]:
    """Return the step times of sessions that decode, and how long the prompt beside them took."""
    sessions = bench.decoding(num_sessions)
    prompt_s = None
    if with_prompt:
        long = bench.open(1000, LONG_PROMPT_TOKENS)
        bench.send(long, [i % 1000 for i in range(LONG_PROMPT_TOKENS)])
        bench.decode_until(lambda: bool(long.step_times_s))
        [prompt_s] = long.step_times_s
    else:
        bench.decode_until(lambda: len(sessions[0].step_times_s) >= num_steps)
    times = [seconds for session in sessions for seconds in session.step_times_s]
    bench.close()
    p50, p99 = np.percentile(times, [50, 99])
    return {"p50": p50, "p99": p99, "max": max(times), "prompt_s": prompt_s}


def run(location: str, arguments: argparse.Namespace) -> None:
    """Print both tables."""
    console = Console(width=110)
    bench = Bench(location, arguments.threads, arguments.weights)
    aggregate(bench, 2, 4)  # warms up
    table = Table(title=f"Sessions that decode together, {arguments.weights}, {arguments.threads} threads")
    for column in ("sessions", "tokens/s together", "of one session", "ms per step"):
        table.add_column(column, justify="right")
    alone = 0.0
    for num_sessions in SESSIONS:
        tokens_per_s, step_s = aggregate(bench, num_sessions, arguments.steps)
        alone = alone or tokens_per_s
        table.add_row(
            str(num_sessions), f"{tokens_per_s:.1f}", f"{tokens_per_s / alone:.2f} x", f"{step_s * 1e3:.1f}"
        )
    console.print(table)
    table = Table(title=f"Steps of eight sessions beside a prompt of {LONG_PROMPT_TOKENS} tokens")
    for column in ("", "p50 ms", "p99 ms", "longest ms", "prompt s"):
        table.add_column(column, justify="right")
    for with_prompt in (False, True):
        found = beside_a_prompt(bench, 8, arguments.steps, with_prompt=with_prompt)
        table.add_row(
            "with the prompt" if with_prompt else "without",
            *(f"{found[key] * 1e3:.0f}" for key in ("p50", "p99", "max")),
            f"{found['prompt_s']:.1f}" if found["prompt_s"] else "-",
        )
    console.print(table)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a checkpoint instead of the random one")
    parser.add_argument("--weights", default="int4", choices=["int4", "int4-g128", "int8", "none"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40, help="steps of each measurement")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, set(range(arguments.threads)))
    if arguments.model:
        run(arguments.model, arguments)
        return
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_CACHE_HOME"] = scratch
        write_safetensors(Path(scratch) / "1b")
        run(str(Path(scratch) / "1b"), arguments)


if __name__ == "__main__":
    main()
