"""Conversations of the chat that are kept in files, and brought back."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from chats import chat, enter, notes
from fake_node import FakeNode
from textual.pilot import Pilot
from waiting import until

from gridnode.errors import BadInput
from gridnode_dashboard.chat_app import ChatApp
from gridnode_dashboard.chat_commands import carry_out


def test_settings_and_files(tmp_path: Path) -> None:
    node = FakeNode()

    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await enter(app, pilot, "/system Be brief.")
        await enter(app, pilot, "/set temperature 0.5")
        await enter(app, pilot, "/set temperature hot")
        await enter(app, pilot, "hi")
        await until(lambda: app.conversation.last_answer())
        await until(lambda: not app.is_answering)
        await enter(app, pilot, f"/save {tmp_path / 'talk.json'}")
        await enter(app, pilot, "/clear")
        assert not app.conversation.messages
        await enter(app, pilot, f"/load {tmp_path / 'talk.json'}")
        assert app.conversation.last_answer() == "Paris."
        await until(lambda: "loaded 2 messages" in notes(app))

    chat(node, steps)
    assert node.requests[0].messages[0].content == "Be brief."
    assert node.requests[0].sampling.temperature == 0.5


def test_saving_spares_files_of_others(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("my diary")

    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await enter(app, pilot, f"/save {precious}")
        await until(lambda: "this is not a saved conversation" in notes(app))
        for _ in range(2):
            await enter(app, pilot, f"/save {tmp_path / 'talk.json'}")
        await until(lambda: notes(app).count("saved 0 messages") == 2)

    chat(FakeNode(), steps)
    assert precious.read_text() == "my diary"


@contextmanager
def full_disk() -> Iterator[None]:
    """No file grows meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_what_was_saved_before(tmp_path: Path) -> None:
    saved = tmp_path / "talk.json"

    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await enter(app, pilot, f"/save {saved}")
        await until(lambda: "saved 0 messages" in notes(app))
        before = saved.read_bytes()
        with full_disk(), pytest.raises(BadInput, match=r"talk\.json; name another file"):
            carry_out(app, f"/save {saved}")
        assert saved.read_bytes() == before

    chat(FakeNode(), steps)
    assert list(tmp_path.iterdir()) == [saved]
    assert saved.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("command", ["save", "load"])
def test_names_that_no_file_can_have_are_refused(command: str) -> None:
    async def steps(app: ChatApp, pilot: Pilot[None]) -> None:
        await enter(app, pilot, f"/{command} ~draft.json")
        await until(lambda: "write './~draft.json'" in notes(app))
        await enter(app, pilot, f"/{command} a\0b")
        await until(lambda: "name another file" in notes(app))
        assert app.is_running

    chat(FakeNode(), steps)
