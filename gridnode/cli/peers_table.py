"""The table of `gridnode peers`. Pure."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from gridnode.cli.showing import milliseconds, name_text, plain_table, printable
from gridnode.cli.status_tables import pauses
from gridnode.control.status_schema import NodeStatus


def peers_table(status: NodeStatus) -> RenderableType:
    """Return one line per node, this one first."""
    folded = frozenset({"ADDRESS", "NAME"})
    table = plain_table("NODE", "STATE", "PATH", "RTT", "ADDRESS", "VERSION", "NAME", folded=folded)
    for peer in status.peers:
        table.add_row(
            ("*" if peer.is_self else " ") + peer.short,
            peer.state,
            "-" if peer.is_self else peer.path,
            f"{milliseconds(peer.rtt_s)} ms" if peer.rtt_s is not None else "-",
            printable(peer.address or status.listen),
            printable(peer.version),
            name_text(peer.public_name),
        )
    if len(status.peers) > 1:
        return Group(table, *pauses(status))
    alone = f"No other node is in the swarm {printable(status.swarm)}. To join it: gridnode up --join ADDRESS"
    return Group(table, Text(""), Text(alone, style="yellow"))
