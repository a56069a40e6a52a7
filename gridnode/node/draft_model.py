"""A small model on this computer that proposes tokens of the answers asked here (`--draft-model`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gridnode.config import NodeConfig
from gridnode.core.sampling import PENALTY_WINDOW_TOKENS, SamplingParams
from gridnode.core.spans import Span
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.requests import EngineConfig
from gridnode.engine.text import TextCodec, load_text_codec
from gridnode.errors import GridError
from gridnode.node.engine_supervisor import EngineState, EngineSupervisor
from gridnode.wire.messages import Output
from gridnode.wire.tensors import TensorHeader

logger = logging.getLogger("gridnode.node.drafts")


class DraftModel:
    """A whole model in an engine worker of its own. Run it once, with `run`.

    Args:
        config: Names the model, and says how it is loaded.
        on_change: Called when `is_ready` may have changed.
    """

    def __init__(self, config: NodeConfig, *, on_change: Callable[[], None]) -> None:
        self._config = config
        self._on_change = on_change
        self._engine: EngineSupervisor | None = None
        self._state: EngineState | None = None
        self._codec: TextCodec | None = None
        self._fits: dict[str, bool] = {}
        """By vocabulary of a target: whether its tokens are ours."""

    @property
    def is_ready(self) -> bool:
        """Whether it is loaded."""
        return self._engine is not None and self._engine.state is EngineState.READY

    async def run(self) -> None:
        """Keep the model loaded until cancelled; do nothing if none is configured.

        Raises:
            BadCheckpoint, BadInput: it cannot be loaded.
        """
        config = self._config
        if not config.draft_model:
            return
        checkpoint = await asyncio.to_thread(open_checkpoint, config.draft_model)
        engine_config = EngineConfig(
            location=config.draft_model,
            span=Span(0, checkpoint.facts.num_blocks),
            quantization=config.quantization,
            dtype=config.dtype,
            executor=config.executor,
            cache_tokens=config.cache_tokens,
            num_threads=config.threads,
            block_cache_bytes=config.block_cache_bytes,
        )
        self._engine = EngineSupervisor(engine_config, on_change=self._engine_changed)
        await self._engine.run()

    async def drafter(
        self, codec: TextCodec, sampling: SamplingParams, *, max_tokens: int
    ) -> ModelDrafter | None:
        """Return who proposes tokens of one answer; None if there is no model, or it has other tokens.

        Args:
            codec: That of the model which answers.
            max_tokens: Longest that the session may become.
        """
        engine = self._engine
        if engine is None or engine.loaded is None or max_tokens > engine.loaded.max_session_tokens:
            return None
        if not await asyncio.to_thread(self._has_tokens_of, codec, engine.loaded.text_dir):
            return None
        return ModelDrafter(engine, sampling, max_tokens=max_tokens, vocab_size=codec.vocab_size)

    def _has_tokens_of(self, codec: TextCodec, text_dir: str) -> bool:
        found = self._fits.get(codec.vocabulary_hash)
        if found is None:
            if self._codec is None:
                self._codec = load_text_codec(Path(text_dir))
            found = self._fits[codec.vocabulary_hash] = self._codec.vocabulary_hash == codec.vocabulary_hash
            if not found:
                logger.warning(
                    "the draft model %s has other tokens than the model that answers, and is not used",
                    self._config.draft_model,
                )
        return found

    def _engine_changed(self) -> None:
        if self._engine is not None and self._engine.state is not self._state:
            self._state = self._engine.state
            logger.info("draft model %s: %s %s", self._config.draft_model, self._state, self._engine.detail)
            self._on_change()


class ModelDrafter:
    """Proposes what the draft model chooses with the sampling and the random numbers of the answer.

    Its KV cache is kept: what was refused is rolled back, what was accepted never runs again.

    Args:
        max_tokens: Positions to lease.
        vocab_size: Ids from here on are no tokens of the target.
    """

    def __init__(
        self, engine: EngineSupervisor, sampling: SamplingParams, *, max_tokens: int, vocab_size: int
    ) -> None:
        self._engine = engine
        self._sampling = sampling
        self._max_tokens = max_tokens
        self._vocab_size = vocab_size
        self._lease: int | None = None
        self._num_cached = 0
        self._is_off = False

    async def prepare(self, token_ids: Sequence[int]) -> None:
        """Run the prompt but for its last token. Cancelling is safe."""
        await self._step(token_ids[:-1], "none")

    async def propose(self, token_ids: Sequence[int], count: int) -> Sequence[int]:
        """Return up to `count` tokens that may follow; none once the draft model failed."""
        text = list(token_ids)
        # The last draft is never run: it needs no place in the cache.
        for _ in range(min(count, self._max_tokens - len(text) + 1)):
            chosen = await self._step(text, "token")
            if chosen is None or chosen >= self._vocab_size:
                break
            text.append(chosen)
        return text[len(token_ids) :]

    async def aclose(self) -> None:
        """Free the lease. Safe to call more than once."""
        lease, self._lease = self._lease, None
        self._is_off = True
        if lease is not None:
            await self._engine.close_lease(lease)

    async def _step(self, text: Sequence[int], output: Output) -> int | None:
        """Run what `text` has beyond the cache; return the token behind it, if that is the output."""
        first = min(self._num_cached, len(text) - 1)
        if self._is_off or first < 0:
            return None
        body = np.array([text[first:]], dtype="<i4").tobytes()
        history = tuple(text[-PENALTY_WINDOW_TOKENS:]) if self._sampling.needs_history else ()
        try:
            if self._lease is None:
                span = self._engine.config.span
                self._lease = await self._engine.open_lease(span, batch=1, max_tokens=self._max_tokens)
            answer = await self._engine.step(
                self._lease,
                body,
                TensorHeader("int32", (1, len(text) - first)),
                position=first,
                output=output,
                sampling=self._sampling,
                history=history,
            )
        except GridError as exc:
            logger.info("the draft model proposes nothing for the rest of this answer: %s", exc)
            self._is_off = True
            return None
        self._num_cached = len(text)
        return int(np.frombuffer(answer.body, dtype="<i4")[0]) if output == "token" else None
