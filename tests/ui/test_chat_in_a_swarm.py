"""The chat with real nodes: what cancelling frees, and what a lost hop looks like."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from nodes import running_swarm
from textual.widgets import Static
from waiting import until

from gridnode.control.client import ControlClient
from gridnode.control.door_server import serve_door
from gridnode.core.addresses import Address
from gridnode.core.spans import Span
from gridnode.node.engine_supervisor import EngineSupervisor, StepOutput
from gridnode_dashboard.chat_app import ChatApp
from gridnode_dashboard.chat_widgets import ChatHeader, ChatInput
from gridnode_dashboard.conversation import Conversation

pytestmark = pytest.mark.swarm

SPANS = [Span(0, 2), Span(2, 4), Span(2, 4)]


def test_escape_frees_every_lease_and_a_lost_hop_is_one_line(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = EngineSupervisor.step

    async def slow_step(*args: Any, **values: Any) -> StepOutput:
        # The tiny model would be through its whole context before anybody can press a key.
        await asyncio.sleep(0.005)
        return await step(*args, **values)

    monkeypatch.setattr(EngineSupervisor, "step", slow_step)
    # Nor may it end by itself, which depends on how much of an answer was there when Esc was pressed.
    monkeypatch.setattr("gridnode.engine.text._stop_ids", lambda *_: frozenset())

    async def scenario() -> None:
        async with running_swarm(tiny_llama, SPANS) as swarm:
            node = swarm.nodes[0]
            async with (
                serve_door(node, Address("127.0.0.1", 0)) as address,
                ControlClient(address) as client,
            ):
                app = ChatApp(client, Conversation(max_tokens=1500))
                async with app.run_test(size=(80, 24)) as pilot:
                    header = app.query_one(ChatHeader)
                    await until(lambda: header.route)

                    app.query_one(ChatInput).text = "tell me a story"
                    await pilot.press("enter")
                    await until(lambda: header.used_tokens > 40)
                    assert sum(one.status().open_sessions for one in swarm.nodes) == 2
                    await pilot.press("escape")
                    await swarm.wait_nothing_leased()
                    await until(lambda: not app.is_answering)
                    assert 0 < len(app.conversation.last_answer()) < 1500

                    app.query_one(ChatInput).text = "another one"
                    await pilot.press("enter")
                    await until(lambda: app.is_answering and len(app.hops) == 2)
                    lost = app.hops[1]
                    victim = next(one for one in swarm.nodes if one.status().peer_id == lost.peer_id)
                    os.kill(victim.status().engine.pid or 0, signal.SIGKILL)
                    await until(lambda: app.query(".reroute"))
                    line = str(app.query_one(".reroute", Static).content)
                    assert "a hop was lost, the answer goes on" in line
                    assert lost.short not in line
                    assert header.route in line
                    await pilot.press("escape")
                    others = [one for one in swarm.nodes if one is not victim]
                    await until(lambda: not any(one.status().open_sessions for one in others))

    asyncio.run(scenario())
