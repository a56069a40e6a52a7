"""The parts of the screen of `gridnode top`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.coordinate import Coordinate
from textual.reactive import reactive
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import DataTable, Static

from gridnode.control.status_schema import NodeStatus, PeerStatus
from gridnode_dashboard.node_history import NodeHistory
from gridnode_dashboard.top_texts import header_text, models_text, node_text, peer_text


class TopHeader(Widget):
    """The first line."""

    DEFAULT_CSS = "TopHeader { height: 1; background: $panel; padding: 0 1; }"

    status: reactive[NodeStatus | None] = reactive(None)

    def render(self) -> Text:
        """Return the line."""
        return header_text(self.status, self.content_size.width) if self.status else Text("gridnode top")


class RowTable(DataTable[Text]):
    """A table whose rows have names: the cursor stays on its row, wherever that goes."""

    # Names may be long; whoever wants the rest looks at the node, and a bar would cost a row.
    DEFAULT_CSS = """
    RowTable { height: 1fr; background: transparent; scrollbar-size: 0 1; }
    RowTable > .datatable--cursor { background: transparent; color: $foreground; text-style: none; }
    RowTable:focus > .datatable--cursor {
        background: $block-cursor-background; color: $block-cursor-foreground;
    }
    """

    def __init__(self, *labels: str) -> None:
        super().__init__(cursor_type="row")
        self._labels = labels
        self._shown: dict[str, tuple[Text, ...]] = {}

    def on_mount(self) -> None:
        """Add the columns."""
        self.add_columns(*self._labels)

    @property
    def row_name(self) -> str:
        """The name of the row under the cursor; empty if there is none."""
        names = list(self._shown)
        return names[self.cursor_row] if 0 <= self.cursor_row < len(names) else ""

    def show(self, rows: Mapping[str, tuple[Text, ...]]) -> None:
        """Show `rows`, in their order. Where only cells changed, only cells are drawn."""
        if list(rows) == list(self._shown):
            self._update_cells(rows)
        else:
            name = self.row_name
            self.clear()
            for key, cells in rows.items():
                self.add_row(*cells, key=key)
            if name in rows:
                self.move_cursor(row=list(rows).index(name))
            self._draw_anew()
        self._shown = dict(rows)

    def _update_cells(self, rows: Mapping[str, tuple[Text, ...]]) -> None:
        measured = set()
        for index, (before, after) in enumerate(zip(self._shown.values(), rows.values(), strict=True)):
            for column, cell in enumerate(after):
                if before[column] == cell:
                    continue
                # Measuring goes through the whole column each time it is asked for: once is enough.
                is_due = column not in measured and before[column].cell_len != cell.cell_len
                measured |= {column} if is_due else set()
                self.update_cell_at(Coordinate(index, column), cell, update_width=is_due)
        if measured:
            self._draw_anew()

    def _draw_anew(self) -> None:
        """Forget what was drawn: columns are measured when the table is idle, perhaps after drawing."""
        self.call_after_refresh(self.notify_style_update)


class PeerTable(RowTable):
    """The table of nodes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Inspect", key_display="⏎"),
    ]


class Models(Widget):
    """The models of the swarm with their rulers."""

    DEFAULT_CSS = "Models { height: auto; padding: 0 1; }"

    def __init__(self) -> None:
        super().__init__()
        self._status: NodeStatus | None = None
        self._shown: tuple[PeerStatus, ...] = ()

    def show(self, status: NodeStatus, shown: tuple[PeerStatus, ...]) -> None:
        """Show the models, with a row for each of the nodes `shown`; only changes of them are drawn."""
        is_new = self._status is None or _ruled(self._status, self._shown) != _ruled(status, shown)
        self._status, self._shown = status, shown
        if is_new:
            self.refresh(layout=True)

    def render(self) -> Text:
        """Return all models, as wide as there is room."""
        return models_text(self._status, self._shown, self.content_size.width) if self._status else Text("")


def _ruled(status: NodeStatus, shown: tuple[PeerStatus, ...]) -> object:
    """Return what the rulers of `status` depend on."""
    spans = [(p.peer_id, p.state, p.serving and (p.serving.start, p.serving.end)) for p in status.peers]
    return status.models, status.join_address, spans, [peer.peer_id for peer in shown]


class NodeFacts(Widget):
    """What the node here is doing."""

    DEFAULT_CSS = "NodeFacts { height: auto; padding: 0 1; }"

    status: reactive[NodeStatus | None] = reactive(None, layout=True)

    def __init__(self) -> None:
        super().__init__()
        self.history = NodeHistory()

    def render(self) -> Text:
        """Return facts and charts, as wide as there is room."""
        if self.status is None:
            return Text("")
        return node_text(self.status, list(self.history.samples), self.content_size.width)


class Panel(Vertical):
    """One part of the screen, with a title where several are seen at once."""

    DEFAULT_CSS = "Panel { height: 1fr; }"

    def __init__(self, title: str, *children: Widget, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(*children, id=id)
        self.title = title
        self.border_title = title


class PeerDetails(ModalScreen[None]):
    """Everything that is known of one node, as long as it is looked at."""

    CSS = """
    PeerDetails { align: center middle; }
    PeerDetails > VerticalScroll {
        width: 90%; max-width: 100; height: auto; max-height: 90%;
        border: round $primary; background: $surface; padding: 0 1;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q", "dismiss", "Back")]

    def __init__(self, peer_id: str, status: NodeStatus) -> None:
        super().__init__()
        self._peer_id = peer_id
        self._shown = Static(markup=False)
        self.text = ""
        """What it says now."""

        self.show(status)

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        with VerticalScroll() as box:
            box.border_title = "Node"
            box.border_subtitle = "Esc goes back"
            yield self._shown

    def show(self, status: NodeStatus) -> None:
        """Show the newer view; what is known last stays when the node has left."""
        peer = next((peer for peer in status.peers if peer.peer_id == self._peer_id), None)
        if peer is not None:
            text = peer_text(peer, status.peers)
            self.text = text.plain
            self._shown.update(text)
