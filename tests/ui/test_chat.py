"""The chat in a terminal of 80x24, against a node behind a real door."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from chats import ANY_PORT, chat, enter, notes
from fake_node import STATUS, FakeNode
from textual.pilot import Pilot
from textual.widgets import Collapsible, OptionList, Static
from waiting import until

from gridnode.control.client import ControlClient
from gridnode.control.door_server import serve_door
from gridnode.control.status_schema import NodeStatus
from gridnode.errors import CacheFull, KeyRefused
from gridnode_dashboard.answer_view import AnswerView
from gridnode_dashboard.chat_app import MAX_SHOWN_PARTS, ChatApp
from gridnode_dashboard.chat_widgets import QUIET_S, ChatHeader, ChatHint, ChatInput
from gridnode_dashboard.conversation import Conversation
from gridnode_dashboard.starting import NodeStarter, StartOffer


def test_a_question_shows_its_answer() -> None:
    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await pilot.press("h", "i", "enter")
        await until(lambda: app.conversation.last_answer() == "Paris.")
        await enter(app, pilot, "and then?")
        await until(lambda: len(app.conversation.messages) == 4)
        await pilot.press("up", "up")
        assert app.query_one(ChatInput).text == "hi"

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


def test_an_answer_that_is_cancelled_twice_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, is_stopping = AnswerView.stop, asyncio.Event()

    async def stop_slowly(shown: AnswerView) -> None:
        is_stopping.set()
        await asyncio.get_running_loop().create_future()  # until the second cancelling
        await stop(shown)

    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await enter(app, pilot, "hi")
        await until(lambda: app.query_one(ChatHeader).used_tokens == 6)
        await pilot.press("escape")
        await is_stopping.wait()
        await pilot.press("escape", "ctrl+c")
        assert app.is_answering
        assert notes(app).count("cancelled") == 1
        app.workers.cancel_all()
        await until(lambda: not app.is_answering)
        assert [turn.role for turn in app.conversation.messages] == ["user", "assistant"]

    monkeypatch.setattr(AnswerView, "stop", stop_slowly)
    chat(FakeNode(hang_after=1), steps)


def test_a_lost_hop_is_one_line_and_the_new_route() -> None:
    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await enter(app, pilot, "hi")
        await until(lambda: app.conversation.last_answer() == "Paris.")
        assert "a hop was lost, the answer goes on: bbbbbbbb 0:30" in notes(app)
        await until(lambda: not app.is_answering)
        await enter(app, pilot, "/route")
        await until(lambda: "12.5 ms" in notes(app))

    chat(FakeNode(reroute_after=1), steps)


def test_a_silent_answer_says_for_how_long() -> None:
    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        hint = app.query_one(ChatHint)
        await enter(app, pilot, "hi")
        await until(lambda: hint.doing.startswith("writing"))
        assert "nothing new" not in hint.render().plain
        hint.num_quiet_ticks = 10 * QUIET_S
        assert "nothing new for 3 s" in hint.render().plain
        await pilot.press("escape")
        await until(lambda: not hint.doing)
        assert hint.render().plain == ChatHint.IDLE

    chat(FakeNode(hang_after=1), steps)


def test_several_lines_are_one_question() -> None:
    node = FakeNode()

    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await pilot.press("a", "ctrl+j", "b", "up", "up", "down", "down", "enter")
        await until(lambda: app.conversation.last_answer())

    chat(node, steps)
    assert node.requests[0].messages[0].content == "a\nb"


def test_commands_are_completed_and_unknown_ones_named() -> None:
    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await pilot.press("/", "m")
        await pilot.press("tab", "enter")
        await until(lambda: "* tiny" in notes(app))
        await enter(app, pilot, "/model nobody")
        await until(lambda: "nobody serves 'nobody'" in notes(app))
        await enter(app, pilot, "/dance")
        await until(lambda: "there is no command /dance" in notes(app))

    chat(FakeNode(), steps)


def test_thoughts_are_folded_and_not_sent_back() -> None:
    node = FakeNode(words=("<thi", "nk>", "\nHm", "</think>", "\n\nPar", "is."))

    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await enter(app, pilot, "hi")
        await until(lambda: app.conversation.last_answer() == "Paris.")
        fold = app.query_one(Collapsible)
        assert fold.display
        assert fold.collapsed
        assert str(fold.query_one("Contents Static", Static).content) == "Hm"
        await until(lambda: not app.is_answering)
        await enter(app, pilot, "and?")
        await until(lambda: len(node.requests) == 2)

    chat(node, steps)
    assert [turn.content for turn in node.requests[1].messages] == ["hi", "Paris.", "and?"]


def test_control_c_copies_a_selection_cancels_an_answer_and_leaves() -> None:
    node = FakeNode(hang_after=1)

    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await pilot.press("h", "i", "shift+left", "ctrl+c")
        assert app.clipboard == "i"
        await pilot.press("end", "enter")
        await until(lambda: node.num_running)
        await pilot.press("ctrl+c")
        await until(lambda: not node.num_running)
        assert app.is_running
        await pilot.press("ctrl+c")
        await until(lambda: not app.is_running)

    chat(node, steps)


def test_asking_again_takes_another_seed_unless_one_was_chosen() -> None:
    node = FakeNode()

    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        for line in ("hi", "/retry", "/set seed 7", "/retry"):
            num_asked = len(node.requests)
            await enter(app, pilot, line)
            await until(
                lambda n=num_asked, line=line: len(node.requests) == n + (not line.startswith("/set"))
            )
            await until(lambda: not app.is_answering)

    chat(node, steps)
    first, second, third = (request.sampling.seed for request in node.requests)
    assert first != second
    assert third == 7
    assert {len(request.messages) for request in node.requests} == {1}


def test_a_question_waits_in_the_line_until_the_model_is_there() -> None:
    node = FakeNode(current=replace(STATUS, models=()))
    node.with_engine("loading", loaded_blocks=3, wanted_blocks=30)

    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await until(lambda: app.query_one("#away").display)
        assert "3 of 30" in str(app.query_one("#away", Static).content)
        await enter(app, pilot, "hi")
        node.current = STATUS
        await pilot.press("escape")
        app.look_again()
        await until(lambda: not app.query_one("#away").display)
        assert not node.requests
        await pilot.press("enter")
        await until(lambda: app.conversation.last_answer() == "Paris.")

    chat(node, steps)


def test_an_error_is_shown_as_text_and_retried() -> None:
    node = FakeNode(error=CacheFull(900, 100))

    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await enter(app, pilot, "hi [b]there")
        await until(lambda: "cannot lease 900 tokens" in notes(app))
        node.error = None
        await until(lambda: not app.is_answering)
        await enter(app, pilot, "/retry")
        await until(lambda: app.conversation.last_answer() == "Paris.")

    chat(node, steps)
    assert node.requests[1].messages[0].content == "hi [b]there"


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


def test_an_answer_that_a_restart_broke_off_is_asked_again() -> None:
    node = FakeNode(hang_after=1)

    async def run() -> None:
        async with AsyncExitStack() as door:
            address = await door.enter_async_context(serve_door(node, ANY_PORT))
            async with ControlClient(address) as client:
                app = ChatApp(client, Conversation())
                async with app.run_test(size=(80, 24)) as pilot:
                    await enter(app, pilot, "hi")
                    await until(lambda: app.query_one(ChatHeader).used_tokens == 6)
                    await door.aclose()
                    await until(lambda: app.query_one("#away").display and not app.is_answering)
                    assert "the node is stopping" in notes(app)
                    assert app.conversation.last_answer() == "Par"
                    node.hang_after = None
                    async with serve_door(node, address):
                        app.look_again()
                        await until(lambda: app.query_one(ChatInput).has_focus)
                        await enter(app, pilot, "/retry")
                        await until(lambda: app.conversation.last_answer() == "Paris.")
                        assert len(app.conversation.messages) == 2

    asyncio.run(run())


def test_nothing_is_offered_to_start_where_a_node_refuses_us() -> None:
    class Refusing(FakeNode):
        def status(self) -> NodeStatus:
            raise KeyRefused("the door wants another key")

    async def run() -> None:
        offers = (StartOffer("pointless", ("false",)),)
        async with (
            serve_door(Refusing(), ANY_PORT) as address,
            ControlClient(address) as client,
            NodeStarter(offers) as starter,
        ):
            app = ChatApp(client, Conversation(), starter=starter)
            async with app.run_test(size=(80, 24)):
                await until(lambda: app.query_one("#away").display)
                assert "another key" in str(app.query_one("#away", Static).content)
                assert not app.query_one(OptionList).display

    asyncio.run(run())


def test_the_last_answer_is_copied_through_the_terminal() -> None:
    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await enter(app, pilot, "/copy")
        await until(lambda: "no answer to copy yet" in notes(app))
        await enter(app, pilot, "hi")
        await until(lambda: app.conversation.last_answer() and not app.is_answering)
        await enter(app, pilot, "/copy")
        await until(lambda: app.clipboard == "Paris.")
        await enter(app, pilot, "/quit")
        await until(lambda: not app.is_running)

    chat(FakeNode(), steps)


def test_the_screen_forgets_what_the_conversation_keeps() -> None:
    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        for number in range(MAX_SHOWN_PARTS + 10):
            app.note(f"note {number}")
        await until(lambda: "note 0\n" not in notes(app))
        assert f"note {MAX_SHOWN_PARTS + 9}" in notes(app)
        assert len(app.query_one("#talk").children) < MAX_SHOWN_PARTS

    chat(FakeNode(), steps)


NODE_PROGRAM = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from fake_node import STATUS, FakeNode
from gridnode.control.door_server import serve_door
from gridnode.control.status_schema import (NodeStatus)
from gridnode.core.addresses import parse_address
async def main():
    async with serve_door(FakeNode(), parse_address(sys.argv[2])):
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


def test_it_starts_a_node_if_wanted_and_stops_it_at_the_end() -> None:
    async def run() -> None:
        async with serve_door(FakeNode(), ANY_PORT) as address:
            pass
        command = (sys.executable, "-c", NODE_PROGRAM, str(Path(__file__).parents[1]), str(address))
        offers = (
            StartOffer("broken", (sys.executable, "-c", "exit('no [b]disk')")),
            StartOffer("good", command),
        )
        async with ControlClient(address) as client, NodeStarter(offers) as starter:
            app = ChatApp(client, Conversation(), starter=starter)
            async with app.run_test(size=(80, 24)) as pilot:
                await until(lambda: app.query_one(OptionList).has_focus)
                await pilot.press("enter")
                await until(lambda: "the node ended:\nno [b]disk" in notes(app))
                await until(lambda: app.query_one(OptionList).has_focus)
                await pilot.press("down", "enter")
                await until(lambda: app.query_one(ChatInput).has_focus)
                assert starter.is_running
                await enter(app, pilot, "hi")
                await until(lambda: app.conversation.last_answer() == "Paris.")
            assert starter.is_running
            await starter.aclose()
            assert not starter.is_running

    asyncio.run(run())
