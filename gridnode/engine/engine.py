"""What a worker does with requests: leases, steps chunk by chunk, sampling. Pure but for the executor."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gridnode.core.sampling import GREEDY, sample
from gridnode.core.spans import Span
from gridnode.engine.adapter_file import read_adapter
from gridnode.engine.arrays import NUMPY_DTYPES, to_array, to_parts
from gridnode.engine.executor import Array, Output, SpanCache, SpanExecutor, SpanStep
from gridnode.engine.kv_pool import CacheLease, KVCachePool
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.requests import (
    BackwardRequest,
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
from gridnode.engine.step_queue import MAX_DECODE_TOKENS, StepRun
from gridnode.engine.tuned_tensors import unpack_tuned, within
from gridnode.errors import BadInput, ContextFull, EngineFailed, WrongModel
from gridnode.wire.frames import MAX_BODY_BYTES
from gridnode.wire.tuning import Tuning

# Decode steps timed after loading, for the announcement; the first ones warm up.
_TIMED_STEPS = 6
_WARM_UP_STEPS = 2
# What tokens are chosen from, or judged by.
_EXECUTOR_OUTPUTS = {
    "token": Output.LOGITS,
    "tokens": Output.ALL_LOGITS,
    "likelihoods": Output.ALL_LOGITS,
}


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
        adapters = [read_adapter(location) for location in config.adapters]
        self._adapters = {each.adapter_id: within(each.scaled(), config.span) for each in adapters}
        for tensors in self._adapters.values():  # one that does not fit must not wait for its first session
            self._executor.allocate(config.span, batch=1, max_tokens=1, tuned=tensors)
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
            kv_bytes_per_token=self._executor.kv_bytes_per_token,
            adapters=tuple(self._adapters),
            text_dir=str(self._text_dir or ""),
            resident_bytes=resident_bytes,
            load_s=load_s,
            decode_block_s=measure_decode_block_s(self._executor, self._facts.hidden_size),
        )

    def has_room(self, request: OpenLease) -> bool:
        """Return whether a lease would not be refused for want of KV cache."""
        return self._pool.fits(request.span, batch=request.batch, max_tokens=request.max_tokens)

    def handle(self, request: Request, body: bytes | bytearray | memoryview = b"") -> EngineMessage:
        """Return the answer to a request that is no step.

        Raises:
            GridError: it cannot be carried out; nothing has changed then.
        """
        if isinstance(request, OpenLease):
            lease = self._pool.open(
                request.lease, request.span, batch=request.batch, max_tokens=request.max_tokens
            )
            try:
                cache = self._executor.allocate(
                    request.span,
                    batch=request.batch,
                    max_tokens=request.max_tokens,
                    tuned=self._adapter(request.tuning, request.span) | unpack_tuned(request.tuning, body),
                )
            except BaseException:
                self._pool.release(request.lease)
                raise
            self._sessions[request.lease] = _Session(lease, cache)
            return LeaseOpened(number=request.number, free_cache_tokens=self._pool.free_tokens)
        if isinstance(request, CloseLease):
            self._sessions.pop(request.lease, None)
            self._pool.release(request.lease)
            return LeaseClosed(number=request.number, free_cache_tokens=self._pool.free_tokens)
        assert isinstance(request, Load)
        raise BadInput("a worker loads one span in its life")

    def backward(self, request: BackwardRequest, body: bytes | memoryview) -> tuple[StepAnswer, bytes]:
        """Return the answer to a request for a gradient, and its body.

        Raises:
            GridError: it cannot be computed.
        """
        size = request.each.num_bytes
        is_whole = len(body) == 2 * size + request.tuning.num_bytes and len(request.each.shape) == 3
        if request.span not in self._config.span or not is_whole:
            raise BadInput(f"gradients of blocks {request.span} asked with {len(body)} bytes")
        if request.each.shape[2] != self._facts.hidden_size:
            raise BadInput(
                f"hidden states of width {request.each.shape[2]}, {self._facts.hidden_size} expected"
            )
        started_at = time.perf_counter()
        hidden, gradient = (to_array(request.each, body[at : at + size]) for at in (0, size))
        tuned = unpack_tuned(request.tuning, body[2 * size :])
        everything = self._adapter(request.tuning, request.span) | tuned
        result, of_tuned = self._executor.backward(request.span, hidden, gradient, everything)
        tensor, answer = to_parts(result)
        behind = b"".join(of_tuned[name].tobytes() for name in tuned)
        compute_s = time.perf_counter() - started_at
        found = StepAnswer(
            number=request.number, tensor=tensor, behind_bytes=len(behind), compute_s=compute_s
        )
        return found, answer + behind

    def _adapter(self, tuning: Tuning, span: Span) -> dict[str, Array]:
        """Return what the adapter that `tuning` names adds to the blocks of `span`.

        Raises:
            WrongModel: it is not hosted here.
        """
        if not tuning.adapter:
            return {}
        if tuning.adapter not in self._adapters:
            raise WrongModel(f"the adapter {tuning.adapter!r} is not hosted here")
        return within(self._adapters[tuning.adapter], span)

    def prepare(self, run: StepRun) -> None:
        """Check a step before its first chunk. The steps before it in its session must have ended.

        Raises:
            GridError: it cannot be computed; nothing has changed then.
        """
        if run.values is None:
            session = self._session(run)
            values = to_array(run.request.tensor, run.body)
            self._check(session, run.request, values)
            if run.request.parents:
                session.cache.reorder(run.request.parents, run.request.position)
            run.values, run.body = values, b""

    def compute(self, runs: Sequence[StepRun]) -> None:
        """Compute the next chunk of each of `runs`, of different sessions, together.

        If this raises, it may be called again with some of them: a chunk computed twice writes the same.
        """
        steps = [self._next_chunk(run) for run in runs]
        for run, step in zip(runs, steps, strict=True):
            session = self._session(run)
            # What lies behind is overwritten now, and what fails half way leaves nothing that counts.
            session.num_tokens = min(session.num_tokens, step.position)
        started_at = time.perf_counter()
        results = self._executor.compute(steps)
        compute_s = time.perf_counter() - started_at
        for run, step, result in zip(runs, steps, results, strict=True):
            if result is not None and run.request.output == "likelihoods":
                judged = run.request.history[run.done_tokens : run.done_tokens + _num_tokens(step)]
                result = log_likelihoods(result[0], judged)[None]
            run.compute_s += compute_s
            run.done_tokens += _num_tokens(step)
            if result is not None:
                run.results.append(result)
            self._session(run).num_tokens = run.request.position + run.done_tokens

    def finish(self, run: StepRun) -> tuple[StepAnswer, bytes]:
        """Return the answer to a step whose chunks are computed, and its body.

        Raises:
            EngineFailed: there are no usable logits to choose a token from.
        """
        started_at = time.perf_counter()
        result = (
            np.concatenate(run.results, axis=1) if len(run.results) > 1 else next(iter(run.results), None)
        )
        if run.request.output in ("token", "tokens"):
            assert result is not None
            result = self._choose(run.request, result, num_tokens=run.num_tokens)
        tensor, body = to_parts(result)
        compute_s = run.compute_s + time.perf_counter() - started_at
        return StepAnswer(number=run.request.number, tensor=tensor, compute_s=compute_s), body

    def _session(self, run: StepRun) -> _Session:
        session = self._sessions.get(run.request.lease)
        if session is None:
            raise BadInput(f"no lease {run.request.lease} is open")
        return session

    def _check(self, session: _Session, request: StepRequest, values: Array) -> None:
        lease = session.lease
        self._check_values(lease, values)
        if request.position > session.num_tokens:
            raise BadInput(
                f"step at position {request.position}, the session holds {session.num_tokens} tokens"
            )
        if request.parents and (len(request.parents) != lease.batch or max(request.parents) >= lease.batch):
            raise BadInput(f"rows {request.parents} asked of a session of {lease.batch} rows")
        end = request.position + values.shape[1]
        if end > lease.max_tokens:
            raise ContextFull(end, lease.max_tokens)
        reaches_head = lease.span.end == self._facts.num_blocks and self._executor.has_head
        if request.output not in ("none", "hidden") and not reaches_head:
            raise BadInput(f"{request.output} asked of blocks {lease.span}, which end before the head")
        if request.output == "likelihoods" and values.shape[:2] != (1, len(request.history)):
            raise BadInput(f"likelihoods of {len(request.history)} tokens asked behind {values.shape} tokens")
        if request.history and max(request.history) >= self._facts.vocab_size:
            raise BadInput(f"history outside 0..{self._facts.vocab_size}: {max(request.history)}")
        if request.output == "tokens" and values.shape[1] > MAX_DECODE_TOKENS:
            raise BadInput(
                f"tokens asked behind each of {values.shape[1]}, at most {MAX_DECODE_TOKENS} are chosen"
            )
        self._check_result_size(request, values)

    def _check_values(self, lease: CacheLease, values: Array) -> None:
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

    def _check_result_size(self, request: StepRequest, values: Array) -> None:
        """Refuse before computing what could not be sent afterwards."""
        hidden_size, vocab_size = self._facts.hidden_size, self._facts.vocab_size
        widths = {"hidden": hidden_size, "normed": hidden_size, "all_logits": vocab_size}
        is_hidden = request.output in ("hidden", "normed")
        item_bytes = np.dtype(NUMPY_DTYPES[self._dtype]).itemsize if is_hidden else 4
        bytes_per_token = widths.get(request.output, 0) * item_bytes * values.shape[0]
        result_bytes = bytes_per_token * values.shape[1]
        if result_bytes > MAX_BODY_BYTES:
            raise BadInput(
                f"{request.output} of {values.shape[1]} tokens take {result_bytes} bytes, at most "
                f"{MAX_BODY_BYTES} are sent; give {MAX_BODY_BYTES // bytes_per_token} tokens at a time"
            )

    def _next_chunk(self, run: StepRun) -> SpanStep:
        """Return the next piece of a step; pieces bound the memory, and let others have their turn."""
        assert run.values is not None
        wanted = _EXECUTOR_OUTPUTS.get(run.request.output) or Output(run.request.output)
        num_tokens = min(run.chunk_tokens, self._config.prefill_chunk_tokens)
        chunk = run.values[:, run.done_tokens : run.done_tokens + num_tokens]
        is_last = run.done_tokens + chunk.shape[1] == run.num_tokens
        return SpanStep(
            cache=self._session(run).cache,
            position=run.request.position + run.done_tokens,
            token_ids=chunk.astype(np.int64) if chunk.dtype == np.int32 else None,
            hidden=None if chunk.dtype == np.int32 else chunk,
            output=wanted if is_last or wanted is not Output.LOGITS else Output.NONE,
        )

    def _choose(self, request: StepRequest, logits: Array, *, num_tokens: int) -> Array:
        """Return the next token of each row, `[batch]` int32; behind each token, if `tokens` are asked for.

        Args:
            logits: `[batch, positions, vocab_size]` of the last positions of the step.
        """
        params = request.sampling or GREEDY
        behind = logits.shape[1] - 1
        chosen = np.empty(logits.shape[:2], dtype=np.int32)
        for i in range(behind + 1):
            position = request.position + num_tokens - behind + i
            if not np.isfinite(logits[:, i].max()):  # NaN, if any is NaN
                raise EngineFailed(
                    f"the logits of position {position} are not numbers: the hidden states or the weights of "
                    "a hop are damaged; ask through other nodes"
                )
            history = request.history[: len(request.history) - behind + i]
            chosen[:, i] = [sample(row[i], params, position=position, history=history) for row in logits]
        return chosen if request.output == "tokens" else chosen[:, -1]


def _num_tokens(step: SpanStep) -> int:
    given = step.hidden if step.token_ids is None else step.token_ids
    assert given is not None
    return int(given.shape[1])


def log_likelihoods(logits: Array, judged: Sequence[int]) -> Array:
    """Return the log-probability that each row of `logits` gives to the token of `judged` at its place."""
    exact = logits.astype(np.float64)
    peak = exact.max(axis=-1)
    total = peak + np.log(np.exp(exact - peak[:, None]).sum(axis=-1))
    found: Array = (exact[np.arange(len(judged)), list(judged)] - total).astype(np.float32)
    return found


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
