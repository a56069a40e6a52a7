"""What a node tells of the sessions that it serves."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from nodes import running_swarm

from gridnode.control.answer_schema import Delta, GenerateRequest
from gridnode.core.ids import short
from gridnode.core.spans import Span

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
                assert 0 <= session.idle_s <= session.age_s
            await swarm.wait_nothing_leased()
            status = other.status()
            assert status.sessions == ()
            assert status.computed_prompt_tokens == 30
            assert status.computed_answer_tokens in (9, 10)

    asyncio.run(scenario())
