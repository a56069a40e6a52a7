"""The chat in a terminal of 80x24, against a node behind a real door."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fake_node import FakeNode
from textual.pilot import Pilot
from textual.widgets import Static
from waiting import until

from gridnode.control.client import ControlClient
from gridnode.control.door_server import serve_door
from gridnode.core.addresses import Address
from gridnode.errors import CacheFull
from gridnode_dashboard.chat_app import ChatApp
from gridnode_dashboard.chat_widgets import ChatInput
from gridnode_dashboard.conversation import Conversation

ANY_PORT = Address("127.0.0.1", 0)


def notes(app: ChatApp) -> str:
    return "\n".join(str(shown.content) for shown in app.query("#talk Static").results(Static))


async def enter(app: ChatApp, pilot: Pilot[None], text: str) -> None:
    app.query_one(ChatInput).value = text
    await pilot.press("enter")


@asynccontextmanager
async def chatting(node: FakeNode) -> AsyncIterator[tuple[ChatApp, Pilot[None]]]:
    async with serve_door(node, ANY_PORT) as address, ControlClient(address) as client:
        app = ChatApp(client, Conversation())
        async with app.run_test(size=(80, 24)) as pilot:
            yield app, pilot


def chat(node: FakeNode, steps: Callable[[ChatApp, Pilot[None]], Awaitable[None]]) -> None:
    async def run() -> None:
        async with chatting(node) as (app, pilot):
            await steps(app, pilot)

    asyncio.run(run())


def test_a_question_shows_its_answer() -> None:
    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await pilot.press("h", "i", "enter")
        await until(lambda: app.conversation.last_answer() == "Paris.")
        await enter(app, pilot, "and then?")
        await until(lambda: len(app.conversation.messages) == 4)
        await pilot.press("up", "up")
        assert app.query_one(ChatInput).value == "hi"

    node = FakeNode()
    chat(node, steps)
    assert [turn.content for turn in node.requests[1].messages] == ["hi", "Paris.", "and then?"]


def test_escape_cancels_the_answer() -> None:
    node = FakeNode(hang_after=1)

    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await enter(app, pilot, "hi")
        await until(lambda: node.num_running)
        await pilot.press("escape")
        await until(lambda: not node.num_running)
        assert "cancelled" in notes(app)

    chat(node, steps)


def test_an_error_is_shown_as_text_and_retried() -> None:
    node = FakeNode(error=CacheFull(900, 100))

    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await enter(app, pilot, "hi [b]there")
        await until(lambda: "cannot lease 900 tokens" in notes(app))
        node.error = None
        await until(lambda: not app._is_answering)
        await enter(app, pilot, "/retry")
        await until(lambda: app.conversation.last_answer() == "Paris.")

    chat(node, steps)
    assert node.requests[1].messages[0].content == "hi [b]there"


def test_settings_and_files(tmp_path: Path) -> None:
    node = FakeNode()

    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await enter(app, pilot, "/system Be brief.")
        await enter(app, pilot, "/set temperature 0.5")
        await enter(app, pilot, "/set temperature hot")
        await enter(app, pilot, "hi")
        await until(lambda: app.conversation.last_answer())
        await until(lambda: not app._is_answering)
        await enter(app, pilot, f"/save {tmp_path / 'talk.json'}")
        await enter(app, pilot, "/clear")
        assert not app.conversation.messages
        await enter(app, pilot, f"/load {tmp_path / 'talk.json'}")
        assert app.conversation.last_answer() == "Paris."
        await until(lambda: "loaded 2 messages" in notes(app))

    chat(node, steps)
    assert node.requests[0].messages[0].content == "Be brief."
    assert node.requests[0].sampling.temperature == 0.5


def test_it_waits_for_a_node_that_went_away() -> None:
    async def run() -> None:
        async with serve_door(FakeNode(), ANY_PORT) as address:
            pass
        async with ControlClient(address) as client:
            app = ChatApp(client, Conversation())
            async with app.run_test(size=(80, 24)) as pilot:
                await until(lambda: app.query_one(ChatInput).disabled)
                assert "gridnode up" in str(app.query_one("#away", Static).content)
                async with serve_door(FakeNode(), address):
                    await pilot.press("r")
                    await until(lambda: not app.query_one(ChatInput).disabled)

    asyncio.run(run())


def test_importing_the_chat_is_light() -> None:
    code = 'import sys, gridnode_dashboard.chat_app; print("torch" in sys.modules)'
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False")
