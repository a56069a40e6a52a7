"""The chat in a terminal of 80x24, against a node behind a real door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fake_node import FakeNode
from textual.pilot import Pilot
from textual.widgets import Static

from gridnode.control.client import ControlClient
from gridnode.control.door_server import serve_door
from gridnode.core.addresses import Address
from gridnode_dashboard.chat_app import ChatApp
from gridnode_dashboard.chat_widgets import ChatInput
from gridnode_dashboard.conversation import Conversation

ANY_PORT = Address("127.0.0.1", 0)


def notes(app: ChatApp) -> str:
    return "\n".join(str(shown.content) for shown in app.query("#talk Static").results(Static))


async def enter(app: ChatApp, pilot: Pilot[None], text: str) -> None:
    app.query_one(ChatInput).text = text
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
