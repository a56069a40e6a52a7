"""The rows of the table of nodes: cells, orders, and what a filter keeps. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from gridnode.control.status_schema import PeerStatus, ServingStatus
from gridnode_dashboard.block_ruler import state_cell
from gridnode_dashboard.formatting import format_context, format_milliseconds, plain, short_name

NOWHERE = 1 << 20
"""Sorts nodes without blocks behind all others."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table."""

    label: str
    show: Callable[[PeerStatus], str | Text]
    order: Callable[[PeerStatus], Any]


def _node(peer: PeerStatus) -> str:
    return ("*" if peer.is_self else " ") + plain(peer.short)


def _state(peer: PeerStatus) -> Text:
    shape, colour = state_cell(peer.state)
    return Text(f"{shape} {plain(peer.state)}", style=colour)


def _blocks(peer: PeerStatus) -> str:
    return f"{peer.serving.start}:{peer.serving.end}" if peer.serving else "-"


def _online(peer: PeerStatus) -> ServingStatus | None:
    """Return what a node serves now: what one that loads tells of its cache and speed is a guess."""
    return peer.serving if peer.state == "online" else None


def _free(peer: PeerStatus) -> str:
    serving = _online(peer)
    return format_context(serving.free_cache_tokens, serving.total_cache_tokens) if serving else "-"


def _sessions(peer: PeerStatus) -> str:
    serving = _online(peer)
    return str(serving.open_sessions) if serving else "-"


def _speed(peer: PeerStatus) -> str:
    serving = _online(peer)
    return f"{serving.decode_tokens_per_s:.0f}" if serving else "-"


def _link(peer: PeerStatus) -> str:
    return "-" if peer.is_self else f"{format_milliseconds(peer.rtt_s)} {plain(peer.path)}"


COLUMNS = (
    Column("NODE", _node, lambda p: (not p.is_self, p.short)),
    Column("STATE", _state, lambda p: (p.state != "online", p.state)),
    Column("BLOCKS", _blocks, lambda p: (p.serving.start, p.serving.end) if p.serving else (NOWHERE, 0)),
    Column("FREE", _free, lambda p: -s.free_cache_tokens if (s := _online(p)) else 1),
    Column("SESS", _sessions, lambda p: -s.open_sessions if (s := _online(p)) else 1),
    Column("T/S", _speed, lambda p: -s.decode_tokens_per_s if (s := _online(p)) else 1.0),
    Column("LINK ms", _link, lambda p: (p.rtt_s is None, p.rtt_s or 0.0)),
    Column("NAME", lambda p: short_name(p.public_name), lambda p: (not p.public_name, p.public_name.lower())),
)


def sort_peers(peers: Sequence[PeerStatus], column: int) -> list[PeerStatus]:
    """Return the nodes by a column: this node, what is online, large numbers and near nodes first."""
    return sorted(peers, key=COLUMNS[column].order)


def filter_peers(peers: Sequence[PeerStatus], text: str) -> list[PeerStatus]:
    """Return the nodes that every word of `text` fits: id, name, state, path, version, model or blocks."""
    words = text.lower().split()

    def described(peer: PeerStatus) -> str:
        model = f"{peer.serving.model} {_blocks(peer)}" if peer.serving else ""
        parts = (peer.peer_id, peer.public_name, peer.state, peer.path, peer.version, model)
        return " ".join(parts).lower()

    return [peer for peer in peers if all(word in described(peer) for word in words)]


def peer_cells(peer: PeerStatus) -> tuple[Text, ...]:
    """Return the row of a node."""
    return tuple(Text.assemble(column.show(peer)) for column in COLUMNS)
