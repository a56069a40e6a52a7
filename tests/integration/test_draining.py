"""Nodes leave and pause without losing a token of anybody: sessions move to other nodes first."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest
from disturbed import NUM_TOKENS, PROMPT, SAMPLED, answer_while
from nodes import ask, running_swarm
from waiting import until

from gridnode.control.answer_schema import Started
from gridnode.control.status_schema import PauseRequest
from gridnode.core.hours import Hours
from gridnode.core.models import QuantFormat
from gridnode.core.sampling import SamplingParams
from gridnode.core.spans import Span
from gridnode.errors import NoCapacity
from gridnode.node.node import Node
from gridnode.units import KIB

pytestmark = pytest.mark.swarm

# The last two hold the same blocks.
SPANS = [Span(0, 2), Span(2, 4), Span(2, 4)]
# Of one token of the small model: float32.
HIDDEN_BYTES = 64 * 4


def hop_behind(started: Started, nodes: list[Node]) -> Node:
    """Return the second hop of a route."""
    [found] = [node for node in nodes if node.status().peer_id == started.route[1].peer_id]
    return found


@pytest.mark.parametrize(
    ("sampling", "quantization"),
    [(SamplingParams(), QuantFormat.INT8), (SAMPLED, QuantFormat.NONE)],
    ids=["greedy-int8", "sampled"],
)
def test_sessions_move_away_from_a_node_that_leaves(
    tiny_llama: Path, sampling: SamplingParams, quantization: QuantFormat
) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, SPANS, quantization=quantization) as swarm:
            node = swarm.nodes[0]
            expected = (await ask(node, PROMPT, max_tokens=NUM_TOKENS, sampling=sampling)).token_ids
            leaving: list[asyncio.Task[None]] = []

            def leave(started: Started) -> None:
                hop = hop_behind(started, swarm.nodes)
                leaving.append(asyncio.create_task(hop.leave(60.0)))

            token_ids, reroutes, finished = await answer_while(node, sampling, 20, leave)
            assert token_ids == expected
            assert reroutes == finished.reroutes == 1
            async with asyncio.timeout(10):  # it has nothing to wait for any more
                await leaving[0]
            await swarm.wait_nothing_leased()

    asyncio.run(scenario())


def test_a_node_that_nobody_can_replace_finishes_what_runs_and_takes_nothing_new(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 2), Span(2, 4)]) as swarm:
            node, last = swarm.nodes
            expected = (await ask(node, PROMPT, max_tokens=NUM_TOKENS)).token_ids
            leaving: list[asyncio.Task[None]] = []

            def leave(started: Started) -> None:
                leaving.append(asyncio.create_task(last.leave(60.0)))

            token_ids, reroutes, _ = await answer_while(node, SamplingParams(), 20, leave)
            assert token_ids == expected
            assert reroutes == 0
            await leaving[0]
            await until(lambda: {peer.state for peer in node.status().peers} == {"online", "leaving"})
            with pytest.raises(NoCapacity):
                await ask(node, PROMPT)

    asyncio.run(scenario())


def test_leaving_waits_no_longer_than_it_was_told(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 4)]) as swarm:
            [node] = swarm.nodes

            async def leave_in_the_middle() -> None:
                async with asyncio.timeout(30):
                    await node.leave(0.05)

            leaving: list[asyncio.Task[None]] = []
            await answer_while(
                node,
                SamplingParams(),
                5,
                lambda _: leaving.append(asyncio.create_task(leave_in_the_middle())),
            )
            await leaving[0]
            assert node.status().state == "leaving"

    asyncio.run(scenario())


def test_a_pause_moves_sessions_frees_the_memory_and_ends(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, SPANS) as swarm:
            node = swarm.nodes[0]
            expected = (await ask(node, PROMPT, max_tokens=NUM_TOKENS)).token_ids
            paused: list[Node] = []

            def pause(started: Started) -> None:
                paused.append(hop_behind(started, swarm.nodes))
                paused[0].pause(PauseRequest(reason="its owner plays"))

            token_ids, reroutes, _ = await answer_while(node, SamplingParams(), 20, pause)
            assert (token_ids, reroutes) == (expected, 1)
            [hop] = paused
            await until(lambda: hop.status().state == "paused")
            status = hop.status()
            assert status.engine.state == "none"
            assert status.engine.pid is None
            assert status.pause is not None
            assert (status.pause.reason, status.pause.remaining_s) == ("its owner plays", None)
            # Others know, and it answers through them.
            await until(lambda: [peer.state for peer in node.status().peers].count("paused") == 1)
            assert (await ask(hop, PROMPT, max_tokens=4)).token_ids == expected[:4]
            work_before = hop.status().computed_answer_tokens
            assert work_before > 0

            hop.resume()
            await until(lambda: hop.status().state == "online", timeout_s=60)
            assert hop.status().pause is None
            assert hop.status().computed_answer_tokens == work_before
            await swarm.wait_ready()

    asyncio.run(scenario())


def test_a_pause_for_a_while_ends_by_itself(tiny_llama: Path) -> None:
    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 4)]) as swarm:
            [node] = swarm.nodes
            node.pause(PauseRequest(duration_s=0.2))
            assert node.status().state == "leaving"
            remaining = node.status().pause
            assert remaining is not None
            assert 0 < (remaining.remaining_s or 0) <= 0.2
            await until(lambda: node.status().pause is None)
            await until(lambda: node.status().state == "online", timeout_s=60)
            assert (await ask(node, PROMPT)).token_ids

    asyncio.run(scenario())


def test_hours_move_sessions_away_and_back(tiny_llama: Path) -> None:
    """Circumstances pause a node as its owner does: nothing is lost, and everybody is told why."""
    hour = time.localtime().tm_hour
    elsewhen = (Hours((hour + 2) % 24 * 60, (hour + 4) % 24 * 60 or 1440),)

    async def scenario() -> None:
        async with running_swarm(tiny_llama, SPANS) as swarm:
            node = swarm.nodes[0]
            expected = (await ask(node, PROMPT, max_tokens=NUM_TOKENS)).token_ids
            resting: list[Node] = []

            def leave_hours(started: Started) -> None:
                resting.append(hop_behind(started, swarm.nodes))
                resting[0].reconfigure(replace(resting[0].config, hours=elsewhen))

            token_ids, reroutes, _ = await answer_while(node, SamplingParams(), 20, leave_hours)
            assert (token_ids, reroutes) == (expected, 1)
            [hop] = resting
            await until(lambda: hop.status().state == "paused")
            reason = f"outside its hours, {elsewhen[0]}"
            await until(lambda: reason in [peer.pause_reason for peer in node.status().peers])
            pause = hop.status().pause
            assert pause is not None
            assert (pause.reason, pause.is_owners) == (reason, False)

            hop.resume()
            assert hop.status().state == "paused", "its owner has not paused it"
            hop.reconfigure(replace(hop.config, hours=()))
            await swarm.wait_ready()
            assert not any(peer.pause_reason for peer in hop.status().peers if peer.is_self)

    asyncio.run(scenario())


def test_bandwidth_slows_down_and_changes_nothing_else(tiny_llama: Path) -> None:
    prompt, rate = [5] * 1000, 128 * KIB

    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 2), Span(2, 4)]) as swarm:
            last, first = swarm.nodes[1], swarm.nodes[0]
            expected = (await ask(last, prompt, max_tokens=4)).token_ids
            first.reconfigure(replace(first.config, bandwidth_bytes_per_s=rate))
            began = time.monotonic()
            assert (await ask(last, prompt, max_tokens=4)).token_ids == expected
            # A second's worth leaves at once; the rest at the rate.
            assert time.monotonic() - began >= HIDDEN_BYTES * len(prompt) / rate - 1.0

    asyncio.run(scenario())
