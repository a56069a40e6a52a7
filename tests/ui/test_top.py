"""The monitor in the terminal, against a node behind a real door."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from fake_node import STATUS, FakeNode
from textual.widgets import DataTable
from waiting import until

from gridnode.control.client import ControlClient
from gridnode.control.door_server import serve_door
from gridnode.core.addresses import Address
from gridnode_dashboard.block_ruler import cell_blocks, model_ruler
from gridnode_dashboard.top_app import Models, TopApp

SERVING = STATUS.peers[0].serving
assert SERVING is not None
HALF = replace(STATUS.peers[0], public_name="[b]Ada", serving=replace(SERVING, end=10))
GAP = replace(
    STATUS, peers=(HALF,), models=(replace(STATUS.models[0], gaps=((10, 30),), min_replicas=0, route=""),)
)


def test_the_ruler_has_a_cell_for_each_block_and_marks_gaps() -> None:
    assert model_ruler(GAP.models[0], GAP.peers, 80).plain == (
        f"*aaaaaaaa  {'█' * 10}{'·' * 20}\ncoverage   {'1' * 10}{'!' * 20}"
    )


def test_cells_share_many_blocks_without_losing_one() -> None:
    assert [block for blocks in cell_blocks(126, 40) for block in blocks] == list(range(126))


def test_the_monitor_shows_nodes_and_a_gap_and_survives_a_restart() -> None:
    async def run() -> None:
        node = FakeNode(current=GAP)
        async with serve_door(node, Address("127.0.0.1", 0)) as address:
            pass
        async with ControlClient(address) as client:
            app = TopApp(client)
            async with app.run_test(size=(80, 24)) as pilot:
                await until(lambda: app.query_one("#away").display)
                async with serve_door(node, address):
                    await pilot.press("r")
                    await until(lambda: app.query_one(DataTable).row_count == 1)
                    assert str(app.query_one(DataTable).get_row_at(0)[-1]) == "[b]Ada"
                    assert "--blocks 10:30" in app.query_one(Models).render().plain
                    assert not app.query_one("#away").display
                    await pilot.press("s", "q")

    asyncio.run(run())
