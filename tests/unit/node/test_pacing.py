import asyncio
from collections.abc import Sequence

import pytest

from gridnode.core.hop_costs import Pace
from gridnode.core.ids import PeerId
from gridnode.core.routing import Hop, Route
from gridnode.core.spans import Span
from gridnode.node.pacing import MAX_AGE_S, Pacing
from gridnode.wire.messages import HopTrace

A, B = PeerId(b"a" * 32), PeerId(b"b" * 32)
ROUTE = Route((Hop(A, Span(0, 2)), Hop(B, Span(2, 6))))


def trace(*hops: tuple[float, float]) -> Sequence[HopTrace]:
    """Return what hops say that they did: compute and time at the hop, in seconds."""
    return [
        HopTrace(compute_s=compute_s, hop_s=hop_s, received_bytes=0, sent_bytes=0)
        for compute_s, hop_s in hops
    ]


class FakeLoop(asyncio.SelectorEventLoop):
    now = 0.0

    def time(self) -> float:
        return self.now


def paces(*laps: tuple[Sequence[HopTrace], float], age_s: float = 0.0) -> dict[PeerId, Pace]:
    """Return what is known `age_s` seconds after laps with links of 0.1 s."""

    async def scenario() -> dict[PeerId, Pace]:
        pacing = Pacing()
        for did, lap_s in laps:
            pacing.note(ROUTE, did, lap_s, 0.1)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, FakeLoop)
        loop.now += age_s
        return pacing.paces()

    with asyncio.Runner(loop_factory=FakeLoop) as runner:
        return runner.run(scenario())


def test_compute_is_by_block_and_the_rest_of_a_hop_is_waiting() -> None:
    found = paces((trace((0.02, 0.03), (0.04, 0.04)), 0.17))
    assert found[A] == Pace(pytest.approx(0.01), pytest.approx(0.01))
    assert found[B] == Pace(pytest.approx(0.01), pytest.approx(0.0))


def test_time_that_no_hop_accounts_for_is_laid_to_all() -> None:
    found = paces((trace((0.02, 0.02), (0.04, 0.04)), 0.26))
    assert found[A].wait_s == found[B].wait_s == pytest.approx(0.05)


def test_one_late_step_moves_little_and_old_ones_are_forgotten() -> None:
    usual = (trace((0.02, 0.02), (0.04, 0.04)), 0.16)
    late = (trace((0.02, 1.02), (0.04, 0.04)), 1.16)
    assert paces(usual, late)[A].wait_s == pytest.approx(0.1)
    assert paces(usual, age_s=MAX_AGE_S + 1) == {}


def test_sessions_are_counted_while_they_last() -> None:
    pacing = Pacing()
    pacing.begin(ROUTE)
    pacing.begin(ROUTE)
    pacing.end(ROUTE)
    assert dict(pacing.own_sessions) == {A: 1, B: 1}
    pacing.end(ROUTE)
    assert dict(pacing.own_sessions) == {}
