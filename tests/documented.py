"""The shell blocks of the documents, and the marks of those that are not run. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(
    r"(?:^<!-- not run here: (?P<why>[^>]+?) -->\n+)?^```(?:sh|bash|console)\n(?P<text>.*?)^```", re.S | re.M
)


@dataclass(frozen=True)
class Block:
    """One shell block."""

    path: Path
    line: int
    text: str
    not_run: str
    """Why it is not run here; empty if it is."""

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    def commands(self) -> list[str]:
        """Return its commands, each on as many lines as it takes."""
        found: list[str] = []
        pending = ""
        for line in self.text.splitlines():
            pending = f"{pending}\n{line}" if pending else line
            if _is_whole(pending):
                found.append(pending)
                pending = ""
        return [command for command in found if command.strip() and not command.lstrip().startswith("#")]


def _is_whole(command: str) -> bool:
    """Return whether neither a quote nor a continued line is open."""
    if command.endswith("\\"):
        return False
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return True


def blocks(path: Path) -> Iterator[Block]:
    """Yield the shell blocks of a document."""
    text = path.read_text()
    for found in _BLOCK.finditer(text):
        start = found.start("text")
        yield Block(path, text.count("\n", 0, start) + 1, found["text"], (found["why"] or "").strip())


def all_blocks() -> list[Block]:
    """Return the shell blocks of all documents."""
    return [block for path in DOCUMENTS for block in blocks(path)]
