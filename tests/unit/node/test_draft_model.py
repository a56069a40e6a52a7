"""The draft model runs each token once, in whatever way its drafts are received."""

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np

from gridnode.core.sampling import GREEDY
from gridnode.core.spans import Span
from gridnode.errors import CacheFull
from gridnode.node.draft_model import ModelDrafter


class CountingEngine:
    """Stands for an `EngineSupervisor` whose model counts: behind n comes n + 1."""

    def __init__(self, *, room: bool = True) -> None:
        self.config = SimpleNamespace(span=Span(0, 1))
        self.runs: list[tuple[int, list[int]]] = []
        self.num_leases = 0
        self._has_room = room

    async def open_lease(self, span: Span, *, batch: int, max_tokens: int) -> int:
        if not self._has_room:
            raise CacheFull(max_tokens, 0)
        self.num_leases += 1
        return 1

    async def close_lease(self, lease: int) -> None:
        self.num_leases -= 1

    async def step(self, lease: int, body: bytes, tensor: Any, *, position: int, **_: Any) -> Any:
        token_ids = np.frombuffer(body, dtype="<i4").tolist()
        self.runs.append((position, token_ids))
        return SimpleNamespace(body=np.array([token_ids[-1] + 1], dtype="<i4").tobytes())


def make_drafter(engine: Any, *, max_tokens: int = 100, vocab_size: int = 1000) -> ModelDrafter:
    return ModelDrafter(engine, GREEDY, max_tokens=max_tokens, vocab_size=vocab_size)


def test_the_cache_is_rolled_back_and_never_rebuilt() -> None:
    async def scenario() -> None:
        engine = CountingEngine()
        drafter = make_drafter(engine)
        await drafter.prepare([5, 6, 7])
        assert await drafter.propose([5, 6, 7], 3) == [8, 9, 10]
        assert await drafter.propose([5, 6, 7, 8, 50], 2) == [51, 52]  # 9 was refused
        assert await drafter.propose([5, 6, 7, 8, 50, 51, 52, 60], 1) == [61]  # all were accepted
        assert engine.runs == [
            (0, [5, 6]),
            (2, [7]),
            (3, [8]),
            (4, [9]),
            (4, [50]),
            (5, [51]),
            (6, [52, 60]),
        ]
        await drafter.aclose()
        await drafter.aclose()
        assert not engine.num_leases

    asyncio.run(scenario())


def test_drafts_end_where_the_lease_or_the_vocabulary_does() -> None:
    async def scenario() -> None:
        assert await make_drafter(CountingEngine(), max_tokens=4).propose([1, 2, 3], 7) == [4, 5]
        assert await make_drafter(CountingEngine(), vocab_size=6).propose([1, 2, 3], 7) == [4, 5]

    asyncio.run(scenario())


def test_a_draft_model_without_room_proposes_nothing() -> None:
    async def scenario() -> None:
        drafter = make_drafter(CountingEngine(room=False))
        await drafter.prepare([1, 2])
        assert await drafter.propose([1, 2, 3], 7) == []
        await drafter.aclose()

    asyncio.run(scenario())
