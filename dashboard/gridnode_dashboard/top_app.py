"""The monitor in the terminal: nodes, blocks and routes of the swarm, as the node here sees them."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.reactive import reactive
from textual.widgets import DataTable, Footer, Static

from gridnode.control.client import ControlClient
from gridnode.control.schema import ModelStatus, NodeStatus, PeerStatus
from gridnode.units import format_bytes, format_seconds
from gridnode_dashboard.block_ruler import model_ruler
from gridnode_dashboard.following import StatusChanged, follow
from gridnode_dashboard.formatting import format_milliseconds, plain, short_name

COLUMNS = ("NODE", "STATE", "BLOCKS", "CACHE", "SPEED", "LINK ms", "NAME")
ORDERS = ("node", "blocks", "speed")


def peer_cells(peer: PeerStatus, total_cache_tokens: int) -> tuple[str, ...]:
    """Return the row of a node in the table; only the node itself tells its total cache."""
    serving = peer.serving
    total = f"/{total_cache_tokens}" if peer.is_self else ""
    return (
        ("*" if peer.is_self else " ") + plain(peer.short),
        peer.state,
        f"{serving.start}:{serving.end}" if serving else "-",
        f"{serving.free_cache_tokens}{total}" if serving else "-",
        f"{serving.decode_tokens_per_s:.0f} t/s" if serving else "-",
        format_milliseconds(peer.rtt_s),
        short_name(peer.public_name),
    )


def sort_peers(peers: tuple[PeerStatus, ...], order: str) -> list[PeerStatus]:
    """Return the nodes by `order`, one of `ORDERS`; nodes without blocks come last."""
    if order == "blocks":
        return sorted(peers, key=lambda p: (p.serving is None, p.serving.start if p.serving else 0))
    if order == "speed":
        return sorted(peers, key=lambda p: -(p.serving.decode_tokens_per_s if p.serving else 0.0))
    return list(peers)


def engine_line(status: NodeStatus) -> str:
    """Return what the node here is doing."""
    engine = status.engine
    return (
        f"{plain(status.short)} {status.state}, up {format_seconds(status.uptime_s)} · "
        f"engine {engine.state}, {format_bytes(engine.resident_bytes)}, {engine.restarts} restarts · "
        f"{status.open_sessions} sessions"
    )


def model_text(model: ModelStatus, status: NodeStatus, width: int) -> Text:
    """Return a model: its ruler, and its route or what to run to fill its first gap."""
    text = Text(f"{short_name(model.name)}  {model.num_blocks} blocks\n", style="bold")
    text = Text.assemble(text, model_ruler(model, status.peers, width), "\n")
    if model.route:
        return text.append(f"route {plain(model.route)}\n")
    for start, end in model.gaps[:1]:
        command = (
            f"gridnode up --model {plain(model.name)} --blocks {start}:{end} --join {status.join_address}"
        )
        text.append(f"blocks {start}:{end} are served by nobody; on another computer:\n{command}\n", "red")
    return text if model.gaps else text.append("no route\n", "red")


class Models(Static):
    """The models of the swarm."""

    status: reactive[NodeStatus | None] = reactive(None, layout=True)

    def render(self) -> Text:
        """Return all models, as wide as there is room."""
        if self.status is None:
            return Text("")
        shown = [model_text(model, self.status, self.size.width) for model in self.status.models]
        return Text("\n").join(shown or [Text("No model is served yet: gridnode up --model PATH_OR_HUB_ID")])


class TopApp(App[None]):
    """Shows the swarm every second until `q`."""

    CSS = """
    #engine { background: $panel; padding: 0 1; height: 1; }
    #away { background: $warning; color: $text; padding: 0 1; display: none; height: auto; }
    DataTable { height: auto; max-height: 45%; }
    Models { padding: 1; height: auto; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("s", "sort", "Sort"),
        Binding("r", "look_again", "Refresh"),
    ]
    order: reactive[str] = reactive(ORDERS[0])

    def __init__(self, client: ControlClient) -> None:
        super().__init__()
        self._client = client
        self._hurry = asyncio.Event()

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        yield Static(id="engine", markup=False)
        yield Static(id="away", markup=False)
        yield DataTable[Text](cursor_type="row")
        with VerticalScroll(can_focus=False):
            yield Models()
        yield Footer()

    def on_mount(self) -> None:
        """Begin to follow the node."""
        self.query_one(DataTable).add_columns(*COLUMNS)
        self.run_worker(follow(self._client, self.post_message, self._hurry), name="follow")

    def on_status_changed(self, message: StatusChanged) -> None:
        """Show the newer view; what was seen last stays while the node is away."""
        away = self.query_one("#away", Static)
        away.display = message.status is None
        if message.status is None:
            away.update(f"{plain(message.problem)}\nWaiting for it; r looks again.")
            return
        self.query_one("#engine", Static).update(engine_line(message.status))
        self.query_one(Models).status = message.status
        self._fill_table(message.status)

    def _fill_table(self, status: NodeStatus) -> None:
        table = self.query_one(DataTable)
        row = table.cursor_row
        table.clear()
        for peer in sort_peers(status.peers, self.order):
            table.add_row(*(Text(cell) for cell in peer_cells(peer, status.total_cache_tokens)))
        table.move_cursor(row=row)

    def action_sort(self) -> None:
        """Sort by the next column."""
        self.order = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]
        status = self.query_one(Models).status
        if status is not None:
            self._fill_table(status)

    def action_look_again(self) -> None:
        """Look at the node at once."""
        self._hurry.set()
