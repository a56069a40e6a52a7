"""The block ruler: one row per node, one cell per block, told apart by colour and by shape. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.text import Text

from gridnode.control.status_schema import ModelStatus, PeerStatus
from gridnode_dashboard.formatting import plain

# state: shape and colour. What is not listed counts as unreachable.
CELLS = {
    "online": ("█", "green"),
    "joining": ("▒", "yellow"),
    "leaving": ("░", "medium_purple"),
    "paused": ("=", "blue"),
}
UNREACHABLE = ("?", "red")
NAME_WIDTH = 10
MARK_DISTANCE = 10  # cells between two numbers of the scale


def state_cell(state: str) -> tuple[str, str]:
    """Return shape and colour of a node's state."""
    return CELLS.get(state, UNREACHABLE)


def cell_blocks(num_blocks: int, width: int) -> list[range]:
    """Return the blocks behind each cell of a row of at most `width` cells."""
    cells = max(1, min(num_blocks, width))
    return [range(i * num_blocks // cells, (i + 1) * num_blocks // cells) for i in range(cells)]


def scale_row(cells: Sequence[range]) -> Text:
    """Return the row of block numbers above the ruler."""
    marks = "".join(str(blocks.start).ljust(MARK_DISTANCE) for blocks in cells[::MARK_DISTANCE])
    return Text(" " * (NAME_WIDTH + 1) + marks[: len(cells)].rstrip(), style="dim")


def node_row(peer: PeerStatus, cells: Sequence[range]) -> Text:
    """Return the row of one node that serves blocks."""
    shape, colour = state_cell(peer.state)
    serving = peer.serving
    held = [
        serving is not None and serving.start < blocks.stop and blocks.start < serving.end for blocks in cells
    ]
    row = Text(("*" if peer.is_self else " ") + plain(peer.short).ljust(NAME_WIDTH - 1) + " ")
    for is_held, run in groupby(held):
        row.append((shape if is_held else "·") * len(list(run)), style=colour if is_held else "dim")
    return row


def coverage_row(peers: Sequence[PeerStatus], cells: Sequence[range]) -> Text:
    """Return the row that counts the online nodes of each block; a cell shows its weakest block."""
    row = Text("copies".ljust(NAME_WIDTH) + " ", style="bold")
    spans = [(p.serving.start, p.serving.end) for p in peers if p.serving and p.state == "online"]
    for blocks in cells:
        count = min(sum(start <= block < end for start, end in spans) for block in blocks)
        shown = "!" if count == 0 else str(count) if count < 10 else "+"
        row.append(shown, style="bold red" if count == 0 else "green")
    return row


def model_ruler(
    model: ModelStatus, peers: Sequence[PeerStatus], width: int, *, shown: Sequence[PeerStatus] | None = None
) -> Text:
    """Return scale, one row for each of the nodes that serve `model`, and its coverage.

    Args:
        shown: Those that get a row; None shows all. The coverage counts all in any case.
    """
    serving = [peer for peer in peers if peer.serving and peer.serving.manifest == model.manifest]
    cells = cell_blocks(model.num_blocks, width - NAME_WIDTH - 1)
    ids = {peer.peer_id for peer in (serving if shown is None else shown)}
    rows = [node_row(peer, cells) for peer in serving if peer.peer_id in ids]
    return Text("\n").join([scale_row(cells), *rows, coverage_row(serving, cells)])
