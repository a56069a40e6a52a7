"""The parts of the chat's screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import TextArea

from gridnode.units import format_seconds
from gridnode_dashboard.formatting import format_context, meter, short_name
from gridnode_dashboard.input_history import InputHistory

METER_WIDTH = 8
# Below this width the meter's bar gives its place to the route.
ROOMY_WIDTH = 100
NEW_LINE_KEYS = ("ctrl+j", "shift+enter", "alt+enter")
# A lost hop is replaced and replayed within this time as a rule; beyond it people wonder.
QUIET_S = 3
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class ChatHeader(Widget):
    """One line: model, route, speed and context of the conversation."""

    DEFAULT_CSS = "ChatHeader { height: 1; dock: top; background: $panel; padding: 0 1; }"

    model: reactive[str] = reactive("")
    route: reactive[str] = reactive("")
    tokens_per_s: reactive[float] = reactive(0.0)
    used_tokens: reactive[int] = reactive(0)
    limit_tokens: reactive[int] = reactive(0)

    def render(self) -> Text:
        """Return the line; the route gives way where the terminal is narrow."""
        left = Text(short_name(self.model) or "no model", style="bold", end="")
        right = Text(f"{self.tokens_per_s:.1f} t/s  ", end="")
        if self.size.width >= ROOMY_WIDTH:
            right.append_text(meter(self.used_tokens, self.limit_tokens, METER_WIDTH)).append(" ")
        right.append(format_context(self.used_tokens, self.limit_tokens))
        room = max(0, self.size.width - left.cell_len - right.cell_len - 4)
        route = Text(self.route or "no route", style="dim", end="")
        route.truncate(room, overflow="ellipsis", pad=True)
        return Text.assemble(left, "  ", route, "  ", right, no_wrap=True)


class ChatHint(Widget):
    """The last line: what can be done now, or what is going on."""

    DEFAULT_CSS = "ChatHint { height: 1; dock: bottom; padding: 0 2; color: $text-muted; }"
    IDLE = "Enter asks · Ctrl-J new line · ↑↓ earlier lines · PgUp PgDn scroll · /help"

    text: reactive[str] = reactive(IDLE)
    """What can be done, as long as nothing is going on."""

    doing: reactive[str] = reactive("")
    """What is going on; empty if nothing is."""

    num_ticks: reactive[int] = reactive(0)
    """Tenths of a second that it is going on."""

    num_quiet_ticks = 0
    """Tenths of a second since `doing` changed."""

    def on_mount(self) -> None:
        """Begin to count."""
        self.set_interval(0.1, self._tick)

    def watch_doing(self) -> None:
        """Note that something happened."""
        self.num_quiet_ticks = 0

    def _tick(self) -> None:
        self.num_quiet_ticks += 1
        self.num_ticks = self.num_ticks + 1 if self.doing else 0

    def render(self) -> Text:
        """Return the line."""
        if not self.doing:
            return Text(self.text, no_wrap=True, overflow="ellipsis")
        spinner = SPINNER[self.num_ticks % len(SPINNER)]
        quiet_s = self.num_quiet_ticks // 10
        quiet = f", nothing new for {format_seconds(quiet_s)}" if quiet_s >= QUIET_S else ""
        text = f"{spinner} {self.doing}, {format_seconds(self.num_ticks // 10)}{quiet} · Esc cancels"
        return Text(text, no_wrap=True, overflow="ellipsis")


class ChatInput(TextArea):
    """Where people write: Enter sends, up and down at its edges bring back earlier lines."""

    DEFAULT_CSS = """
    ChatInput { height: auto; max-height: 8; border: round $primary 50%; padding: 0 1; background: $surface; }
    ChatInput:focus { border: round $primary; }
    ChatInput:disabled { border: round $foreground 20%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("pageup", "app.scroll_talk(-1)", show=False),
        Binding("pagedown", "app.scroll_talk(1)", show=False),
        Binding("tab", "complete", show=False),
    ]

    @dataclass
    class Submitted(Message):
        """Enter was pressed."""

        text: str

    def __init__(self, history: InputHistory, *, completions: tuple[str, ...] = ()) -> None:
        super().__init__(placeholder="Ask something, or /help", id="question", highlight_cursor_line=False)
        self._history = history
        self._completions = completions

    async def _on_key(self, event: events.Key) -> None:
        """Take Enter before the editor makes a new line of it."""
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.post_message(self.Submitted(self.text))
        elif event.key in NEW_LINE_KEYS:
            event.stop()
            event.prevent_default()
            self.insert("\n")

    def take(self) -> None:
        """Put the text into the history and begin a new one."""
        self._history.add(self.text.strip())
        self.text = ""

    def update_suggestion(self) -> None:
        """Suggest the rest of a command."""
        found = [name for name in self._completions if name.startswith(self.text)] if self.text else []
        self.suggestion = found[0][len(self.text) :] if found and self.text.startswith("/") else ""

    def action_complete(self) -> None:
        """Take the suggestion."""
        self.insert(self.suggestion)

    def action_cursor_up(self, select: bool = False) -> None:
        """Go a line up, from the first one to the entry before."""
        if select or self.wrapped_document.location_to_offset(self.cursor_location).y > 0:
            super().action_cursor_up(select)
        else:
            self._show(self._history.older(self.text))

    def action_cursor_down(self, select: bool = False) -> None:
        """Go a line down, from the last one to the entry after."""
        last = self.wrapped_document.height - 1
        is_inside = self.wrapped_document.location_to_offset(self.cursor_location).y < last
        if select or is_inside or self._history.is_at_draft:
            super().action_cursor_down(select)
        else:
            self._show(self._history.newer())

    def _show(self, text: str) -> None:
        self.text = text
        self.move_cursor(self.document.end)
