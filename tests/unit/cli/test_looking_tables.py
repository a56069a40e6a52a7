"""The tables of `gridnode peers` and `gridnode ps`."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from fake_node import STATUS
from rich.console import Console, RenderableType

from gridnode.cli.peers_table import peers_table
from gridnode.cli.ps_tables import ps_view
from gridnode.control.status_schema import EngineStatus, SessionStatus

SESSION = SessionStatus(
    short="0123abcd",
    client="bbbbbbbb",
    model="tiny",
    start=0,
    end=10,
    position=17,
    max_tokens=512,
    cache_bytes=512 * 1024,
    age_s=3.0,
    idle_s=0.1,
)


def shown(view: RenderableType, *, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(view)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 200])
def test_nothing_is_cut_in_a_terminal_of_80_columns(width: int) -> None:
    peer = replace(
        STATUS.peers[0], is_self=False, path="direct", rtt_s=0.0123, address="192.168.100.200:7338"
    )
    text = shown(peers_table(replace(STATUS, peers=(STATUS.peers[0], peer))), width=width)
    for word in ("NODE", "STATE", "PATH", "RTT", "ADDRESS", "VERSION", "12.3 ms", "192.168.100.200:7338"):
        assert word in text


def test_a_node_alone_is_told_how_not_to_be() -> None:
    assert "--join" in shown(peers_table(replace(STATUS, peers=STATUS.peers[:1])))


def test_what_is_loaded_is_shown_with_its_sessions() -> None:
    text = shown(ps_view(replace(STATUS, sessions=(SESSION,), open_sessions=1)))
    assert "0123abcd" in text
    assert "17/512" in text
    assert "tokens free" in text


def test_a_node_that_serves_nothing_says_so() -> None:
    peer = replace(STATUS.peers[0], serving=None)
    none = replace(STATUS, peers=(peer,), engine=EngineStatus(state="none"))
    assert "gridnode up --model" in shown(ps_view(none))
