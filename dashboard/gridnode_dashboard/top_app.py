"""The monitor in the terminal: the swarm and the node here, as that node sees them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import DataTable, Footer, Input, RichLog, Static, Tab, Tabs

from gridnode.control.client import ControlClient
from gridnode.control.status_schema import NodeStatus
from gridnode_dashboard.contributors import contributors
from gridnode_dashboard.following import StatusChanged, follow
from gridnode_dashboard.formatting import plain
from gridnode_dashboard.log_tail import LogTail, record_text
from gridnode_dashboard.peer_rows import COLUMNS, filter_peers, peer_cells, sort_peers
from gridnode_dashboard.top_texts import (
    CONTRIBUTOR_COLUMNS,
    SESSION_COLUMNS,
    contributor_cells,
    session_cells,
)
from gridnode_dashboard.top_widgets import (
    Models,
    NodeFacts,
    Panel,
    PeerDetails,
    PeerTable,
    RowTable,
    TopHeader,
)

# Everything is seen at once from this size on; below it, one panel.
WIDE_COLUMNS, WIDE_ROWS = 120, 32
MAX_LOG_LINES = 1000
LOG_INTERVAL_S = 0.5


class TopApp(App[None]):
    """Shows the swarm every second until `q`.

    Args:
        log_file: Log of the node here, if it is on this computer.
    """

    CSS = """
    #away { background: $warning-muted; color: $text-warning; padding: 0 1; display: none; height: auto; }
    #panels { height: 1fr; }
    .-away #panels { opacity: 50%; }
    #left { width: 3fr; } #right { width: 2fr; }
    #filter { height: 1; border: none; padding: 0 1; display: none; background: $boost; }
    #swarm RowTable { height: auto; max-height: 50%; }
    #swarm VerticalScroll { padding-top: 1; }
    .-wide #swarm { height: 2fr; }
    .-wide #node { height: auto; }
    .-wide Panel { border: round $primary 40%; border-title-color: $text-muted; }
    .-wide Panel:focus-within { border: round $primary; border-title-color: $text; }
    RichLog { background: transparent; padding: 0 1; scrollbar-size: 1 1; }
    """
    TITLE = "gridnode top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("s", "sort(1)", "Sort"),
        Binding("S", "sort(-1)", show=False),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("escape", "clear_filter", show=False),
        Binding("r", "look_again", "Refresh"),
        *(Binding(str(number), f"show_panel({number})", show=False) for number in range(1, 6)),
    ]

    def __init__(self, client: ControlClient, *, log_file: Path | None = None) -> None:
        super().__init__()
        self._client = client
        self._hurry = asyncio.Event()
        self._status: NodeStatus | None = None
        self._sorted_by = 0
        self._filter = ""
        self._shown = "swarm"
        self._is_wide = False
        self._tail = LogTail(log_file) if log_file else None
        self._header = TopHeader()
        self._away = Static(id="away", markup=False)
        self._peers = PeerTable(*(column.label for column in COLUMNS))
        self._models = Models()
        self._facts = NodeFacts()
        self._sessions = RowTable(*SESSION_COLUMNS)
        self._contributors = RowTable(*CONTRIBUTOR_COLUMNS)
        self._log_view = RichLog(max_lines=MAX_LOG_LINES, wrap=True, min_width=20)
        self._filter_line = Input(placeholder="words of a name, state, model ... Esc shows all", id="filter")
        self._panels = (
            Panel("1 Swarm", self._peers, VerticalScroll(self._models, can_focus=False), id="swarm"),
            Panel("2 Node", self._facts, id="node"),
            Panel("3 Sessions", self._sessions, id="sessions"),
            Panel("4 Contributors", self._contributors, id="contributors"),
            Panel("5 Log", self._log_view, id="log"),
        )
        self._tabs = Tabs(*(Tab(panel.title, id=f"tab-{panel.id}") for panel in self._panels))

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        swarm, node, sessions, givers, log = self._panels
        yield self._header
        yield self._away
        yield self._tabs
        yield Horizontal(
            Vertical(swarm, log, id="left"), Vertical(node, sessions, givers, id="right"), id="panels"
        )
        yield self._filter_line
        yield Footer()

    def on_mount(self) -> None:
        """Begin to follow the node and its log."""
        self._tabs.can_focus = False
        self._arrange()
        self._peers.focus()
        self.run_worker(follow(self._client, self.post_message, self._hurry), name="follow")
        if self._tail is not None and not self._tail.path.exists():
            self._log_view.write(f"no log yet: a node started here writes {self._tail.path}")
        self._read_log()
        self.set_interval(LOG_INTERVAL_S, self._read_log)

    def on_resize(self, event: events.Resize) -> None:
        """Show everything, or one panel where there is no room."""
        self._is_wide = event.size.width >= WIDE_COLUMNS and event.size.height >= WIDE_ROWS
        self._arrange()

    def _arrange(self) -> None:
        self.screen_stack[0].set_class(self._is_wide, "-wide")
        self._tabs.display = not self._is_wide
        for panel in self._panels:
            panel.display = self._is_wide or panel.id == self._shown
        for column in self.screen_stack[0].query("#left, #right"):
            column.display = any(panel.display for panel in column.children)

    def on_status_changed(self, message: StatusChanged) -> None:
        """Show the newer view; what was seen last stays while the node is away."""
        if not self.is_running:
            return  # the screen is being taken down
        self._away.display = message.status is None
        self.screen_stack[0].set_class(message.status is None, "-away")
        if message.status is None:
            self._away.update(f"{plain(message.problem)}\nWaiting for it; r looks again, q leaves.")
            return
        self._status = self._header.status = message.status
        self._facts.history.note(message.status, asyncio.get_running_loop().time())
        self._facts.status = message.status
        self._show_swarm(message.status)
        self._sessions.show({one.short: session_cells(one) for one in message.status.sessions})
        found = contributors(message.status.peers)
        all_blocks = sum(one.num_blocks for one in found)
        self._contributors.show({one.name: contributor_cells(one, all_blocks) for one in found})
        if isinstance(self.screen, PeerDetails):
            self.screen.show(message.status)

    def _show_swarm(self, status: NodeStatus) -> None:
        peers = sort_peers(filter_peers(status.peers, self._filter), self._sorted_by)
        self._peers.show({peer.peer_id: peer_cells(peer) for peer in peers})
        self._models.show(status, tuple(peers))
        kept = f", {len(peers)} of {len(status.peers)} fit '{self._filter}'" if self._filter else ""
        swarm = self._panels[0]
        swarm.border_title = f"{swarm.title} by {COLUMNS[self._sorted_by].label}{kept}"

    def _read_log(self) -> None:
        if self._tail is None or not self.is_running:
            return
        for record in self._tail.read_new():
            self._log_view.write(record_text(record))

    def action_sort(self, step: int) -> None:
        """Sort by the next column, or the one before."""
        self._sort_by((self._sorted_by + step) % len(COLUMNS))

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """Sort by the column that was clicked."""
        if event.data_table is self._peers:
            self._sort_by(event.column_index)

    def _sort_by(self, column: int) -> None:
        self._sorted_by = column
        self.notify(f"by {COLUMNS[column].label}", timeout=1)
        if self._status is not None:
            self._show_swarm(self._status)

    def action_filter(self) -> None:
        """Ask which nodes to show."""
        self.action_show_panel(1)
        self._filter_line.display = True
        self._filter_line.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show the nodes that fit."""
        self._filter = event.value
        if self._status is not None:
            self._show_swarm(self._status)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go back to the table; the filter stays."""
        self._filter_line.display = bool(event.value)
        self._peers.focus()

    def action_clear_filter(self) -> None:
        """Show all nodes again."""
        self._filter_line.value = ""
        self._filter_line.display = False
        self._peers.focus()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Show everything about a node."""
        if self._status is not None and event.data_table is self._peers:
            self.push_screen(PeerDetails(self._peers.row_name, self._status))

    def on_tabs_tab_activated(self, event: Tabs.TabActivated) -> None:
        """Show the panel of the tab."""
        self._show((event.tab.id or "").removeprefix("tab-"))

    def action_show_panel(self, number: int) -> None:
        """Show a panel, or go to it where all are seen."""
        self._tabs.active = f"tab-{self._panels[number - 1].id}"
        self._show(str(self._panels[number - 1].id))

    def _show(self, name: str) -> None:
        self._shown = name
        self._arrange()
        panel = next(panel for panel in self._panels if panel.id == name)
        for child in panel.children:
            if child.can_focus:
                child.focus()
                return
        self.set_focus(None)

    def action_look_again(self) -> None:
        """Look at the node at once."""
        self._hurry.set()
