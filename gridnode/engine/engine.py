"""What a worker does with requests: leases, steps in chunks, sampling. Pure but for the executor."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from gridnode.core.sampling import GREEDY, sample
from gridnode.engine.executor import Array, Output, SpanCache, SpanExecutor, SpanStep
from gridnode.engine.kv_pool import CacheLease, KVCachePool
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.requests import (
    CloseLease,
    EngineConfig,
    EngineMessage,
    LeaseClosed,
    LeaseOpened,
    Load,
    Loaded,
    OpenLease,
    Request,
    StepAnswer,
    StepRequest,
)
from gridnode.engine.select import build_executor, choose_dtype, prepare_text
from gridnode.errors import BadInput, ContextFull
from gridnode.wire.tensors import TensorHeader

_NUMPY_DTYPES: dict[str, Any] = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "int32": np.int32,
}
# Decode steps timed after loading, for the announcement; the first ones warm up.
_TIMED_STEPS = 6
_WARM_UP_STEPS = 2


@dataclass(slots=True)
class _Session:
    lease: CacheLease
    cache: SpanCache
    num_tokens: int = 0
    """Tokens in the cache that count."""


class Engine:
    """One loaded span and the sessions on it.

    Raises:
        BadInput, BadCheckpoint: the span cannot be loaded.
    """

    def __init__(self, config: EngineConfig, *, on_progress: Callable[[int], None]) -> None:
        checkpoint = open_checkpoint(config.location)
        self._config = config
        self._facts = checkpoint.facts
        if config.span.end > self._facts.num_blocks:
            raise BadInput(f"blocks {config.span} asked for, the model has blocks 0:{self._facts.num_blocks}")
        self._dtype = choose_dtype(config, checkpoint)
        loaded = iter(range(1, len(config.span) + 1))
        self._name, self._executor = build_executor(
            config, checkpoint, on_block=lambda: on_progress(next(loaded))
        )
        self._text_dir = prepare_text(checkpoint)
        self._sessions: dict[int, _Session] = {}
        self._pool = KVCachePool(
            config.span,
            bytes_per_token=self._executor.kv_bytes_per_token,
            total_tokens=config.cache_tokens,
        )

    def describe(self, number: int, *, load_s: float, resident_bytes: int) -> Loaded:
        """Return the facts of the loaded span."""
        return Loaded(
            number=number,
            executor=self._name,
            dtype=self._dtype,
            has_embeddings=self._executor.has_embeddings,
            has_head=self._executor.has_head,
            total_cache_tokens=self._config.cache_tokens,
            max_session_tokens=min(self._facts.max_positions, self._config.cache_tokens),
            text_dir=str(self._text_dir or ""),
            resident_bytes=resident_bytes,
            load_s=load_s,
            decode_block_s=measure_decode_block_s(self._executor, self._facts.hidden_size),
        )

    def handle(self, request: Request, body: bytes | bytearray | memoryview) -> tuple[EngineMessage, bytes]:
        """Return the answer to `request` and its body.

        Raises:
            GridError: it cannot be carried out; nothing has changed then.
        """
        if isinstance(request, StepRequest):
            return self._step(request, body)
        if isinstance(request, OpenLease):
            lease = self._pool.open(
                request.lease, request.span, batch=request.batch, max_tokens=request.max_tokens
            )
            cache = self._executor.allocate(request.span, batch=request.batch, max_tokens=request.max_tokens)
            self._sessions[request.lease] = _Session(lease, cache)
            return LeaseOpened(number=request.number, free_cache_tokens=self._pool.free_tokens), b""
        if isinstance(request, CloseLease):
            self._sessions.pop(request.lease, None)
            self._pool.release(request.lease)
            return LeaseClosed(number=request.number, free_cache_tokens=self._pool.free_tokens), b""
        assert isinstance(request, Load)
        raise BadInput("a worker loads one span in its life")

    def _step(
        self, request: StepRequest, body: bytes | bytearray | memoryview
    ) -> tuple[EngineMessage, bytes]:
        started_at = time.perf_counter()
        session = self._sessions.get(request.lease)
        if session is None:
            raise BadInput(f"no lease {request.lease} is open")
        values = _array(request.tensor, body)
        self._check(session, request, values)
        result = self._run(session, request, values)
        session.num_tokens = request.position + values.shape[1]
        if request.output == "token":
            assert result is not None
            result = self._choose(request, result, num_tokens=values.shape[1])
        tensor, answer_body = _message_parts(result)
        compute_s = time.perf_counter() - started_at
        return StepAnswer(number=request.number, tensor=tensor, compute_s=compute_s), answer_body

    def _check(self, session: _Session, request: StepRequest, values: Array) -> None:
        lease = session.lease
        is_tokens = values.dtype == np.int32
        expected_dimensions = 2 if is_tokens else 3
        if values.ndim != expected_dimensions or values.shape[0] != lease.batch or values.shape[1] < 1:
            raise BadInput(f"a step of shape {values.shape} came to a session of {lease.batch} rows")
        if not is_tokens and values.shape[2] != self._facts.hidden_size:
            raise BadInput(f"hidden states of width {values.shape[2]}, {self._facts.hidden_size} expected")
        if is_tokens and not (lease.span.start == 0 and self._executor.has_embeddings):
            raise BadInput(f"token ids came to blocks {lease.span}, which take hidden states")
        if is_tokens and (values.min() < 0 or values.max() >= self._facts.vocab_size):
            raise BadInput(f"token ids outside 0..{self._facts.vocab_size}: {values.min()}, {values.max()}")
        if request.position > session.num_tokens:
            raise BadInput(
                f"step at position {request.position}, the session holds {session.num_tokens} tokens"
            )
        end = request.position + values.shape[1]
        if end > lease.max_tokens:
            raise ContextFull(end, lease.max_tokens)
        reaches_head = lease.span.end == self._facts.num_blocks and self._executor.has_head
        if request.output in ("token", "logits", "all_logits") and not reaches_head:
            raise BadInput(f"{request.output} asked of blocks {lease.span}, which end before the head")

    def _run(self, session: _Session, request: StepRequest, values: Array) -> Array | None:
        """Compute the step in chunks, so that its memory is bounded."""
        wanted = Output.LOGITS if request.output == "token" else Output(request.output)
        size = self._config.prefill_chunk_tokens
        starts = range(0, values.shape[1], size)
        results: list[Array] = []
        for start in starts:
            chunk = values[:, start : start + size]
            is_last = start == starts[-1]
            result = self._executor.compute(
                [
                    SpanStep(
                        cache=session.cache,
                        position=request.position + start,
                        token_ids=chunk.astype(np.int64) if chunk.dtype == np.int32 else None,
                        hidden=None if chunk.dtype == np.int32 else chunk,
                        output=wanted if is_last or wanted is not Output.LOGITS else Output.NONE,
                    )
                ]
            )[0]
            if result is not None:
                results.append(result)
        return np.concatenate(results, axis=1) if len(results) > 1 else results[0] if results else None

    def _choose(self, request: StepRequest, logits: Array, *, num_tokens: int) -> Array:
        """Return the next token of each row, `[batch]` int32."""
        position = request.position + num_tokens
        params = request.sampling or GREEDY
        chosen = [sample(row[-1], params, position=position, history=request.history) for row in logits]
        return np.array(chosen, dtype=np.int32)


def measure_decode_block_s(executor: SpanExecutor, hidden_size: int) -> float:
    """Return the median seconds of one decode step through one block."""
    cache = executor.allocate(executor.span, batch=1, max_tokens=_TIMED_STEPS)
    hidden = np.zeros((1, 1, hidden_size), dtype=np.float32)
    times = []
    for position in range(_TIMED_STEPS):
        started_at = time.perf_counter()
        executor.compute([SpanStep(cache=cache, position=position, hidden=hidden, output=Output.HIDDEN)])
        times.append(time.perf_counter() - started_at)
    return float(np.median(times[_WARM_UP_STEPS:])) / len(executor.span)


def _array(tensor: TensorHeader, body: bytes | bytearray | memoryview) -> Array:
    """Return a copy: torch wants memory that it may write to."""
    return np.frombuffer(body, dtype=_NUMPY_DTYPES[tensor.dtype]).reshape(tensor.shape).copy()


def _message_parts(result: Array | None) -> tuple[TensorHeader, bytes]:
    if result is None:
        return TensorHeader("int32", (0,)), b""
    name = next(name for name, dtype in _NUMPY_DTYPES.items() if result.dtype == dtype)
    return TensorHeader(name, result.shape), result.tobytes()  # type: ignore[arg-type] # a key of the table
