"""What a node tells of the sessions that it serves."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from nodes import Swarm, running_swarm
from waiting import until

from gridnode.control.answer_schema import Delta, GenerateRequest, Waiting
from gridnode.core.ids import PeerId, short
from gridnode.core.spans import Span
from gridnode.node.node import Node
from gridnode.node.uplink import Uplink

pytestmark = pytest.mark.swarm


def test_every_hop_tells_its_sessions_and_counts_its_tokens(tiny_llama: Path) -> None:
    request = GenerateRequest(token_ids=tuple(range(30)), max_tokens=40, ignore_eos=True)

    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 2), Span(2, 4)]) as swarm:
            asking, other = swarm.nodes
            num_tokens = 0
            async with contextlib.aclosing(asking.generate(request)) as events:
                async for event in events:
                    num_tokens += isinstance(event, Delta)
                    if num_tokens == 10:
                        break
                (session,) = other.status().sessions
                assert (session.start, session.end) == (2, 4)
                assert session.client == short(asking.peer_id)
                assert session.model == tiny_llama.name
                assert session.short == asking.status().sessions[0].short
                # The newest token is known but not yet computed; the next step may be under way.
                assert session.position in (39, 40)
                assert session.max_tokens == 69  # the last token is not computed on
                per_token = 2 * 2 * 16 * 4  # keys and values, 2 heads of 16 values, float32
                assert session.cache_bytes == 69 * 2 * per_token  # in two blocks
                assert 0 <= session.idle_s <= session.age_s
            await swarm.wait_nothing_leased()
            status = other.status()
            assert status.sessions == ()
            assert status.computed_prompt_tokens == 30
            assert status.computed_answer_tokens in (9, 10)

    asyncio.run(scenario())


def test_a_session_that_sends_nothing_loses_its_cache_and_can_go_on(tiny_llama: Path) -> None:
    request = GenerateRequest(token_ids=tuple(range(30)), max_tokens=20, ignore_eos=True)

    async def answer(swarm: Swarm, *, is_idle: bool) -> list[int]:
        found: list[int] = []
        [node] = swarm.nodes
        async with contextlib.aclosing(node.generate(request)) as events:
            async for event in events:
                assert not isinstance(event, Waiting), "the node takes the session anew at once"
                if isinstance(event, Delta):
                    found += event.token_ids
                if is_idle and len(found) == 5:
                    is_idle = False
                    await until(lambda: node.status().sessions == (), timeout_s=30)
                    await swarm.wait_nothing_leased()
        return found

    async def scenario() -> None:
        async with running_swarm(tiny_llama, []) as swarm:
            await swarm.start(Span(0, 4), session_ttl_s=1.0)
            await swarm.wait_ready()
            expected = await answer(swarm, is_idle=False)
            assert len(expected) == 20
            assert await answer(swarm, is_idle=True) == expected

    asyncio.run(scenario())


def test_a_hop_computes_the_next_chunk_while_a_slow_link_takes_the_last_one(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One result waits for the link, one more is computed: then the hop waits, too."""
    request = GenerateRequest(token_ids=tuple(range(64)), max_tokens=3, prefill_chunk_tokens=8)

    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 2), Span(2, 4)]) as swarm:
            first, _ = swarm.nodes
            undisturbed = await pieces(first, request)
            opened = asyncio.Event()
            wait_turn = Uplink.wait_turn

            async def wait_for_the_link(self: Uplink, peer_id: PeerId, num_bytes: int) -> None:
                if self._me == first.peer_id and peer_id != first.peer_id:
                    await opened.wait()
                await wait_turn(self, peer_id, num_bytes)

            def position() -> int:
                sessions = first.status().sessions
                return sessions[0].position if sessions else 0

            monkeypatch.setattr(Uplink, "wait_turn", wait_for_the_link)
            answering = asyncio.create_task(pieces(first, request))
            await until(lambda: position() == 16)
            for _ in range(100):
                await asyncio.sleep(0)
            assert position() == 16
            opened.set()
            assert await answering == undisturbed
            await swarm.wait_nothing_leased()

    asyncio.run(scenario())


async def pieces(node: Node, request: GenerateRequest) -> list[Delta]:
    """Return the pieces of an answer."""
    return [event async for event in node.generate(request) if isinstance(event, Delta)]
