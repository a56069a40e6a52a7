"""The monitor in the terminal, against a node behind a real door."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from fake_node import FakeNode
from small_swarm import SWARM, peer
from textual.pilot import Pilot
from textual.widgets import RichLog
from waiting import until

from gridnode.control.client import ControlClient
from gridnode.control.door_server import serve_door
from gridnode.core.addresses import Address
from gridnode_dashboard.top_app import TopApp
from gridnode_dashboard.top_widgets import Models, Panel, PeerDetails, PeerTable, RowTable

ANY_PORT = Address("127.0.0.1", 0)
NARROW, WIDE = (80, 24), (140, 40)


def watch(
    node: FakeNode,
    steps: Callable[[TopApp, Pilot[None]], Awaitable[None]],
    *,
    size: tuple[int, int] = NARROW,
    log_file: Path | None = None,
) -> None:
    async def run() -> None:
        async with serve_door(node, ANY_PORT) as address, ControlClient(address) as client:
            app = TopApp(client, log_file=log_file)
            async with app.run_test(size=size) as pilot:
                await until(lambda: app.query_one(PeerTable).row_count)
                await steps(app, pilot)

    asyncio.run(run())


def column(app: TopApp, index: int) -> list[str]:
    table = app.query_one(PeerTable)
    return [str(table.get_row_at(row)[index]) for row in range(table.row_count)]


def shown(app: TopApp) -> list[str]:
    return [str(panel.id) for panel in app.query(Panel) if panel.display]


def test_it_shows_nodes_and_gaps_and_survives_a_restart() -> None:
    async def run() -> None:
        node = FakeNode(current=SWARM)
        async with serve_door(node, ANY_PORT) as address:
            pass
        async with ControlClient(address) as client:
            app = TopApp(client)
            async with app.run_test(size=NARROW) as pilot:
                for _ in range(2):
                    await until(lambda: app.query_one("#away").display)
                    async with serve_door(node, address):
                        await pilot.press("r")
                        await until(lambda: not app.query_one("#away").display)
                        assert column(app, 7) == ["[b]Ada", "Bo", "Cem"]
                        assert "--blocks 25:30" in app.query_one(Models).render().plain
                    await pilot.press("r")
                await until(lambda: app.query_one("#away").display)
                assert column(app, 7) == ["[b]Ada", "Bo", "Cem"]  # what was seen last stays

    asyncio.run(run())


def test_sorting_keeps_the_cursor_on_its_node() -> None:
    async def steps(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("down")
        await pilot.press("s", "s")
        assert column(app, 0) == ["*aaaaaaaa", " cccccccc", " bbbbbbbb"]
        assert app.query_one(PeerTable).row_name == "b" * 52
        await pilot.press("S", "S")
        assert column(app, 0) == ["*aaaaaaaa", " bbbbbbbb", " cccccccc"]

    watch(FakeNode(current=SWARM), steps)


def test_a_filter_keeps_the_nodes_that_fit_all_words() -> None:
    async def steps(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"join", "space", *"CEM", "enter")
        await until(lambda: column(app, 0) == [" cccccccc"])
        models = app.query_one(Models).render().plain
        assert "cccccccc" in models
        assert "bbbbbbbb" not in models
        assert "!!!!!11111!!!!!" in models  # coverage counts all nodes, online ones only
        await pilot.press("escape")
        await until(lambda: len(column(app, 0)) == 3)

    watch(FakeNode(current=SWARM), steps)


def test_a_node_is_inspected_while_it_changes() -> None:
    node = FakeNode(current=SWARM)

    async def steps(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("down", "enter")
        await until(lambda: isinstance(app.screen, PeerDetails))
        details = app.screen
        assert isinstance(details, PeerDetails)
        assert "b" * 52 in details.text
        assert "1.2 ms" in details.text
        node.current = replace(SWARM, peers=(SWARM.peers[0], peer("b", "Bo", 20, 25, state="leaving")))
        app.action_look_again()
        await until(lambda: "leaving" in details.text)
        await pilot.press("escape")
        assert not isinstance(app.screen, PeerDetails)
        await pilot.press("q")
        await until(lambda: not app.is_running)

    watch(node, steps)


def test_one_panel_is_seen_in_a_small_terminal_and_all_in_a_large_one() -> None:
    async def steps(app: TopApp, pilot: Pilot[None]) -> None:
        assert shown(app) == ["swarm"]
        await pilot.press("3")
        assert shown(app) == ["sessions"]
        sessions = app.query_one("#sessions RowTable", RowTable)
        assert [str(cell) for cell in sessions.get_row_at(0)][:4] == [
            "62bfd518",
            "bbbbbbbb",
            "0:10",
            "812/1k",
        ]
        await pilot.press("4")
        givers = app.query_one("#contributors RowTable", RowTable)
        assert [str(givers.get_row_at(row)[0]) for row in range(3)] == ["*[b]Ada", " Bo", " Cem"]
        await pilot.resize_terminal(*WIDE)
        await until(lambda: len(shown(app)) == 5)
        await pilot.press("1")
        assert app.query_one(PeerTable).has_focus
        await pilot.resize_terminal(*NARROW)
        await until(lambda: shown(app) == ["swarm"])

    watch(FakeNode(current=SWARM), steps)


def test_the_log_is_followed_when_it_grows_and_when_it_is_replaced(tmp_path: Path) -> None:
    log = tmp_path / "gridnode.log"

    def write(mode: str, message: str) -> None:
        fields = {"time": "2026-01-01T10:00:00.5+00:00", "level": "warning", "logger": "gridnode.node.x"}
        with log.open(mode) as file:
            file.write("half a line}\n" + json.dumps({**fields, "pid": 1, "message": message}) + "\n")

    async def steps(app: TopApp, pilot: Pilot[None]) -> None:
        def lines() -> str:
            return "\n".join(strip.text for strip in app.query_one(RichLog).lines)

        await pilot.press("5")
        await until(lambda: "no log yet" in lines())
        write("w", "one [b]")
        await until(lambda: "WARN  x one [b]" in lines())
        write("a", "two")
        await until(lambda: "x two" in lines())
        log.rename(tmp_path / "gridnode.log.1")
        write("w", "three \x1b[31m")
        await until(lambda: "three �[31m" in lines())

    watch(FakeNode(current=SWARM), steps, log_file=log)
