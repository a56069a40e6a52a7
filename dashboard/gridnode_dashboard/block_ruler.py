"""The block ruler: one row per node, one cell per block, told apart by colour and by shape. Pure."""

from __future__ import annotations

from rich.text import Text

from gridnode.control.schema import ModelStatus, PeerStatus
from gridnode_dashboard.formatting import plain

# state: shape and colour. What is not listed counts as unreachable.
CELLS = {"online": ("█", "green"), "joining": ("▒", "yellow"), "leaving": ("░", "magenta")}
UNREACHABLE = ("?", "red")
NAME_WIDTH = 10


def cell_blocks(num_blocks: int, width: int) -> list[range]:
    """Return the blocks behind each cell of a row of at most `width` cells."""
    cells = max(1, min(num_blocks, width))
    return [range(i * num_blocks // cells, (i + 1) * num_blocks // cells) for i in range(cells)]


def node_row(peer: PeerStatus, num_blocks: int, width: int) -> Text:
    """Return the row of one node that serves blocks."""
    shape, colour = CELLS.get(peer.state, UNREACHABLE)
    row = Text(("*" if peer.is_self else " ") + plain(peer.short).ljust(NAME_WIDTH - 1) + " ")
    for blocks in cell_blocks(num_blocks, width - NAME_WIDTH - 1):
        serving = peer.serving
        held = serving is not None and serving.start < blocks.stop and blocks.start < serving.end
        row.append(shape if held else "·", style=colour if held else "dim")
    return row


def coverage_row(peers: list[PeerStatus], num_blocks: int, width: int) -> Text:
    """Return the row that counts the online nodes of each block; a cell shows its weakest block."""
    row = Text("coverage".ljust(NAME_WIDTH) + " ", style="bold")
    spans = [(p.serving.start, p.serving.end) for p in peers if p.serving and p.state == "online"]
    for blocks in cell_blocks(num_blocks, width - NAME_WIDTH - 1):
        count = min(sum(start <= block < end for start, end in spans) for block in blocks)
        row.append("!" if count == 0 else str(min(count, 9)), style="bold red" if count == 0 else "green")
    return row


def model_ruler(model: ModelStatus, peers: tuple[PeerStatus, ...], width: int) -> Text:
    """Return the rows of the nodes that serve `model` and its coverage."""
    serving = [peer for peer in peers if peer.serving and peer.serving.manifest == model.manifest]
    rows = [node_row(peer, model.num_blocks, width) for peer in serving]
    return Text("\n").join([*rows, coverage_row(serving, model.num_blocks, width)])
