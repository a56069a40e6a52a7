"""Hops die, stall and leave; the answer goes on with the same tokens."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from disturbed import NUM_TOKENS, PROMPT, SAMPLED, answer_while
from nodes import ask, running_swarm
from waiting import until

from gridnode.control.answer_schema import Started, Waiting
from gridnode.core.models import QuantFormat
from gridnode.core.sampling import SamplingParams
from gridnode.core.spans import Span
from gridnode.errors import NoCapacity
from gridnode.node import lasting_session, remote_session, session_opener
from gridnode.node.engine_supervisor import StepOutput
from gridnode.wire.tensors import TensorHeader

pytestmark = pytest.mark.swarm


@pytest.fixture(autouse=True)
def no_better_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let answers move when they have to, and not because this computer is busy with others."""
    monkeypatch.setattr(lasting_session, "COMPARE_INTERVAL_S", 3600.0)


@pytest.mark.parametrize(
    ("sampling", "quantization"),
    [
        (SamplingParams(), QuantFormat.NONE),
        (SAMPLED, QuantFormat.NONE),
        (SamplingParams(), QuantFormat.INT8),
        (SAMPLED, QuantFormat.INT4),
    ],
    ids=["greedy", "sampled", "greedy-int8", "sampled-int4"],
)
def test_a_killed_worker_is_replaced_with_the_same_tokens(
    tiny_llama: Path, sampling: SamplingParams, quantization: QuantFormat
) -> None:
    """Another node holds the same blocks. Unquantized is the reference executor, quantized the fast path."""
    spans = [Span(0, 2), Span(2, 4), Span(2, 4)]

    async def scenario() -> None:
        async with running_swarm(tiny_llama, spans, quantization=quantization) as swarm:
            node = swarm.nodes[0]
            undisturbed = (await ask(node, PROMPT, max_tokens=NUM_TOKENS, sampling=sampling)).token_ids
            for after in (1, 20):
                killed: list[str] = []

                def kill_last_hop(started: Started, killed: list[str] = killed) -> None:
                    killed.append(started.route[-1].peer_id)
                    victim = next(n for n in swarm.nodes if n.status().peer_id == killed[0])
                    pid = victim.status().engine.pid
                    assert pid is not None
                    os.kill(pid, signal.SIGKILL)

                token_ids, reroutes, finished = await answer_while(node, sampling, after, kill_last_hop)
                assert token_ids == undisturbed
                assert reroutes == finished.reroutes == 1
                assert finished.route[-1].peer_id not in killed
                await swarm.wait_ready()
            await swarm.wait_nothing_leased()

    asyncio.run(scenario())


def test_an_answer_waits_for_the_only_holder_to_come_back(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 2), Span(2, 4)]) as swarm:
            node, victim = swarm.nodes
            undisturbed = (await ask(node, PROMPT, max_tokens=NUM_TOKENS)).token_ids
            pid = victim.status().engine.pid
            assert pid is not None
            disturb = asyncio.Event()
            answering = asyncio.create_task(answer_while(node, SamplingParams(), 10, lambda _: disturb.set()))
            await disturb.wait()
            os.kill(pid, signal.SIGKILL)
            await until(lambda: victim.status().engine.state == "restarting")
            assert victim.status().state == "joining"
            assert "SIGKILL" in victim.status().engine.detail
            token_ids, reroutes, _ = await answering
            assert token_ids == undisturbed
            assert reroutes == 1
            assert victim.status().engine.restarts == 1
            assert victim.status().engine.pid not in (None, pid)
            await swarm.wait_nothing_leased()

    asyncio.run(scenario())


def test_b2_an_answer_says_that_it_waits_and_goes_on_when_somebody_joins(tiny_llama: Path) -> None:
    """B2: all holders of some blocks are gone; a new one comes later."""

    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 2), Span(2, 4)]) as swarm:
            node, leaving = swarm.nodes
            undisturbed = (await ask(node, PROMPT, max_tokens=NUM_TOKENS)).token_ids
            disturb = asyncio.Event()
            sampled = (await ask(node, PROMPT, max_tokens=NUM_TOKENS, sampling=SAMPLED)).token_ids
            waits: list[Waiting] = []
            answering = asyncio.create_task(answer_while(node, SAMPLED, 5, lambda _: None))
            greedy = asyncio.create_task(
                answer_while(node, SamplingParams(), 5, lambda _: disturb.set(), waits=waits)
            )
            await disturb.wait()
            await swarm.stop(leaving)
            await until(lambda: waits)
            assert waits[0].position == 0
            assert "blocks 2:4 of 0:4 are served by nobody" in waits[0].text
            await swarm.start(Span(2, 4))
            assert (await greedy)[:2] == (undisturbed, 1)
            assert (await answering)[0] == sampled

    asyncio.run(scenario())


def test_nobody_to_take_over_is_an_error_that_names_the_blocks(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 2), Span(2, 4)]) as swarm:
            node, leaving = swarm.nodes
            disturb = asyncio.Event()
            answering = asyncio.create_task(
                answer_while(node, SamplingParams(), 5, lambda _: disturb.set(), max_interruption_s=1.0)
            )
            await disturb.wait()
            await swarm.stop(leaving)
            with pytest.raises(NoCapacity, match="blocks 2:4 of 0:4 are served by nobody"):
                await answering
            await until(lambda: node.status().open_sessions == 0 and node.free_cache_tokens == 2048)

    asyncio.run(scenario())


def test_b4_a_hop_that_hangs_is_replaced_with_the_same_tokens(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B4: the node answers and its engine worker does not, as after a suspended laptop or a stuck disk."""
    monkeypatch.setattr(remote_session, "MIN_DECODE_TIMEOUT_S", 1.0)
    monkeypatch.setattr(remote_session, "PATIENCE", 1.0)
    monkeypatch.setattr(remote_session, "OPEN_TIMEOUT_S", 2.0)
    spans = [Span(0, 2), Span(2, 4), Span(2, 4)]

    async def scenario() -> None:
        async with running_swarm(tiny_llama, spans) as swarm:
            node = swarm.nodes[0]
            undisturbed = (await ask(node, PROMPT, max_tokens=NUM_TOKENS)).token_ids
            hanging: list[int] = []

            def freeze(started: Started) -> None:
                [hop] = [n for n in swarm.nodes if n.status().peer_id == started.route[1].peer_id]
                pid = hop.status().engine.pid
                assert pid is not None
                hanging.append(pid)
                os.kill(pid, signal.SIGSTOP)

            try:
                token_ids, reroutes, _ = await answer_while(node, SamplingParams(), 20, freeze)
            finally:
                for pid in hanging:
                    os.kill(pid, signal.SIGCONT)
            assert token_ids == undisturbed
            assert reroutes >= 1

    asyncio.run(scenario())


def test_a_hop_that_answers_something_else_is_replaced_with_the_same_tokens(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 2), Span(2, 4), Span(2, 4)]) as swarm:
            node = swarm.nodes[0]
            expected = (await ask(node, PROMPT, max_tokens=NUM_TOKENS)).token_ids
            broken: list[str] = []

            def break_last_hop(started: Started) -> None:
                broken.append(started.route[1].peer_id)
                [hop] = [n for n in swarm.nodes if n.status().peer_id == broken[0]]
                engine = hop._contribution.engine
                assert engine is not None
                in_order = engine.step

                async def step(*args: Any, **fields: Any) -> StepOutput:
                    output = await in_order(*args, **fields)
                    return replace(output, tensor=TensorHeader("int32", (0,)), body=b"")

                monkeypatch.setattr(engine, "step", step)

            token_ids, reroutes, finished = await answer_while(node, SamplingParams(), 20, break_last_hop)
            assert token_ids == expected
            assert reroutes == 1
            assert finished.route[1].peer_id not in broken

    asyncio.run(scenario())


def test_b4_a_slow_hop_is_left_for_a_faster_one(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """B4: it answers, and is on time for everybody's patience; others would be faster."""
    monkeypatch.setattr(lasting_session, "MOVE_INTERVAL_S", 0.0)
    monkeypatch.setattr(lasting_session, "COMPARE_INTERVAL_S", 0.0)
    monkeypatch.setattr(session_opener, "SLOW_MARGIN_S", 0.2)

    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 2), Span(2, 4), Span(2, 4)]) as swarm:
            node = swarm.nodes[0]
            expected = (await ask(node, PROMPT, max_tokens=NUM_TOKENS)).token_ids
            slow: list[str] = []

            def slow_down(started: Started) -> None:
                slow.append(started.route[1].peer_id)
                [hop] = [n for n in swarm.nodes if n.status().peer_id == slow[0]]
                engine = hop._contribution.engine
                assert engine is not None
                at_its_best = engine.step

                async def step(*args: Any, **fields: Any) -> StepOutput:
                    await asyncio.sleep(1.0)
                    return await at_its_best(*args, **fields)

                monkeypatch.setattr(engine, "step", step)

            token_ids, reroutes, finished = await answer_while(node, SamplingParams(), 20, slow_down)
            assert token_ids == expected
            assert reroutes >= 1
            assert finished.route[1].peer_id not in slow

    asyncio.run(scenario())
