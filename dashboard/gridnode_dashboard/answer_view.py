"""One answer on the screen: words as markdown while they come, thoughts folded."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Collapsible, Markdown, Static
from textual.widgets.markdown import MarkdownStream

from gridnode_dashboard.formatting import plain
from gridnode_dashboard.reasoning import ReasoningSplit


class AnswerView(Vertical):
    """Shows an answer. Mount it, `write` its pieces, then `stop`."""

    DEFAULT_CSS = """
    AnswerView { height: auto; }
    AnswerView Collapsible { display: none; border: none; padding: 0; background: transparent; }
    AnswerView Collapsible Contents { padding: 0 2; color: $text-muted; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.said = ""
        """The words so far, without the thoughts."""

        self._thought = ""
        self._split = ReasoningSplit()
        self._words = Markdown(open_links=False)
        self._thoughts = Static(markup=False)
        self._fold = Collapsible(self._thoughts, title="thoughts")
        self._stream: MarkdownStream | None = None

    def compose(self) -> ComposeResult:
        """Lay out the answer."""
        yield self._fold
        yield self._words

    @property
    def is_thinking(self) -> bool:
        """Whether the model thinks now."""
        return self._split.is_thinking

    async def write(self, piece: str) -> None:
        """Add a piece of the answer."""
        await self._add(*self._split.push(plain(piece)))

    async def stop(self) -> None:
        """Show what was held back; nothing more comes."""
        await self._add(*self._split.flush())
        if self._stream is not None:
            await self._stream.stop()

    async def _add(self, thought: str, said: str) -> None:
        if thought:
            self._thought += thought
            self._fold.display = bool(self._thought.strip())
            self._thoughts.update(self._thought.strip())
        if said:
            self.said += said
            self._stream = self._stream or Markdown.get_stream(self._words)
            await self._stream.write(said)
