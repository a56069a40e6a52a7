"""What the interfaces in the terminal look like, compared with pictures in `screens/`."""

from __future__ import annotations

import asyncio

import pytest
from fake_node import FakeNode
from screens import assert_screen
from small_swarm import SWARM
from waiting import until

from gridnode.control.client import ControlClient
from gridnode.control.door_server import serve_door
from gridnode.core.addresses import Address
from gridnode_dashboard.chat_app import ChatApp
from gridnode_dashboard.chat_widgets import ChatInput
from gridnode_dashboard.conversation import Conversation
from gridnode_dashboard.top_app import TopApp
from gridnode_dashboard.top_widgets import PeerTable

ANY_PORT = Address("127.0.0.1", 0)
ANSWER = (
    "Two facts:\n\n1. **Paris** is the capital.\n2. It has rivers:\n   - Seine\n\n```sh\necho Paris\n```\n"
)


def test_an_answer_in_80_columns() -> None:
    async def run() -> None:
        node = FakeNode(
            words=tuple(ANSWER.split(" ")[:1]) + tuple(f" {word}" for word in ANSWER.split(" ")[1:])
        )
        async with serve_door(node, ANY_PORT) as address, ControlClient(address) as client:
            app = ChatApp(client, Conversation())
            async with app.run_test(size=(80, 24)) as pilot:
                await until(lambda: app.models)
                app.query_one(ChatInput).text = "What is the capital of France?"
                await pilot.press("enter")
                await until(lambda: app.conversation.last_answer() and not app.is_answering)
                await assert_screen(app, "chat-80x24")

    asyncio.run(run())


@pytest.mark.parametrize("size", [(80, 24), (140, 40)], ids=["80x24", "140x40"])
def test_the_swarm(size: tuple[int, int]) -> None:
    async def run() -> None:
        async with (
            serve_door(FakeNode(current=SWARM), ANY_PORT) as address,
            ControlClient(address) as client,
        ):
            app = TopApp(client)
            async with app.run_test(size=size) as _:
                await until(lambda: app.query_one(PeerTable).row_count)
                await assert_screen(app, f"top-{size[0]}x{size[1]}")

    asyncio.run(run())
