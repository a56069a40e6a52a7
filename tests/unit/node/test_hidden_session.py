from __future__ import annotations

import asyncio
from typing import Any, cast

import numpy as np
import pytest

from gridnode.core.ids import ModelId
from gridnode.core.spans import Span
from gridnode.errors import ErrorCode, GridError, PeerRefused, ProtocolError
from gridnode.node.block_call import BlockCall
from gridnode.node.hidden_session import HiddenSession
from gridnode.node.remote_session import SessionPlan, StepOutcome
from gridnode.wire.tensors import TensorHeader

CALL = BlockCall(model=ModelId("tiny", "0" * 64), num_blocks=4, part=Span(0, 4))
FIRST, SECOND = np.random.default_rng(0).normal(size=(2, 1, 3, 8)).astype(np.float32)


class Hop:
    """A session that gives hidden states back as they came, until a step fails: then it repeats the error."""

    def __init__(self, plan: SessionPlan, swarm: Swarm) -> None:
        self.plan = plan
        self.is_open = True
        self.positions: list[int] = []
        self._swarm = swarm
        self._failure: GridError | None = None

    async def step(self, body: bytes, tensor: TensorHeader, *, position: int, **_: Any) -> StepOutcome:
        self._failure = self._failure or self._swarm.next_error
        self._swarm.next_error = None
        if self._failure is not None:
            raise self._failure
        self.positions.append(position)
        return StepOutcome(tensor=tensor, body=body, trace=())

    async def aclose(self) -> None:
        self.is_open = False


class Swarm:
    """What a session asks for models, and for others like it."""

    def __init__(self) -> None:
        self.next_error: GridError | None = None
        self.opened: list[Hop] = []
        self._max_tokens = 0

    def is_loading(self, call: BlockCall) -> bool:
        return False

    def opener(self, *_: Any, max_tokens: int, **__: Any) -> Swarm:
        self._max_tokens = max_tokens
        return self

    async def open(self, *, deadline: float | None) -> Hop:
        plan = SessionPlan(model=CALL.model, route=cast(Any, None), max_tokens=self._max_tokens)
        self.opened.append(Hop(plan, self))
        return self.opened[-1]


@pytest.mark.parametrize(
    "error",
    [PeerRefused("a kernel failed", reason=ErrorCode.ENGINE_FAILED), ProtocolError("nonsense came")],
    ids=["engine failed", "protocol"],
)
def test_after_an_error_that_nothing_mends_the_next_step_opens_the_session_again(error: GridError) -> None:
    async def scenario() -> None:
        swarm = Swarm()
        session = HiddenSession(cast(Any, swarm), CALL, max_tokens=16)
        await session.step(FIRST)
        swarm.next_error = error
        with pytest.raises(type(error)):
            await session.step(SECOND)
        assert [hop.is_open for hop in swarm.opened] == [False]  # nobody holds a lease meanwhile
        assert session.position == 3
        np.testing.assert_array_equal(await session.step(SECOND), SECOND)
        assert swarm.opened[1].positions == [0, 3]

    asyncio.run(scenario())
