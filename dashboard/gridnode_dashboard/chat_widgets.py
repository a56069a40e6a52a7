"""The parts of the chat's screen."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Input

from gridnode_dashboard.formatting import format_context, short_name

MAX_HISTORY_LINES = 500  # more than anybody scrolls through with one key


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
        right = f"{self.tokens_per_s:.1f} t/s  {format_context(self.used_tokens, self.limit_tokens)}"
        room = max(0, self.size.width - left.cell_len - len(right) - 4)
        route = Text(self.route or "no route", style="dim", end="")
        route.truncate(room, overflow="ellipsis", pad=True)
        return Text.assemble(left, "  ", route, "  ", right, no_wrap=True)


class ChatInput(Input):
    """The input line; up and down bring back earlier ones."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "older", show=False),
        Binding("down", "newer", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(placeholder="Ask something, or /help", id="question")
        self._lines: list[str] = []
        self._at = 0

    def remember(self, line: str) -> None:
        """Add a line to the history."""
        if not self._lines or self._lines[-1] != line:
            self._lines = [*self._lines, line][-MAX_HISTORY_LINES:]
        self._at = len(self._lines)

    def action_older(self) -> None:
        """Show the line before."""
        self._show(self._at - 1)

    def action_newer(self) -> None:
        """Show the line after, an empty one at the end."""
        self._show(self._at + 1)

    def _show(self, at: int) -> None:
        self._at = min(max(at, 0), len(self._lines))
        self.value = self._lines[self._at] if self._at < len(self._lines) else ""
        self.cursor_position = len(self.value)
