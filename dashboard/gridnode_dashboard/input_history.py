"""Earlier lines of the chat: up and down bring them back, a file keeps them for the next time."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from gridnode.paths import write_atomically

MAX_HISTORY_LINES = 500  # more than anybody scrolls through with one key
# The file grows by one entry a question and is cut back when it passes this.
MAX_HISTORY_BYTES = 1024 * 1024
# Whole documents are pasted into chats; nobody looks for them with the arrow keys.
MAX_ENTRY_CHARACTERS = 8192


class InputHistory:
    """What was entered before, newest last, and a place in it.

    Args:
        path: Where it is kept, readable by its owner only; None keeps it in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lines = _read(path) if path else []
        self._at = len(self._lines)
        self._draft = ""

    def add(self, line: str) -> None:
        """Add what was entered; the place is behind it then."""
        is_new = not self._lines or self._lines[-1] != line
        if is_new and len(line) <= MAX_ENTRY_CHARACTERS:
            self._lines = [*self._lines, line][-MAX_HISTORY_LINES:]
            self._keep(line)
        self._at, self._draft = len(self._lines), ""

    def older(self, draft: str) -> str:
        """Go one back and return what stands there; `draft`, the text that was not entered yet, is kept."""
        if self._at == len(self._lines):
            self._draft = draft
        self._at = max(self._at - 1, 0)
        return self._shown()

    def newer(self) -> str:
        """Go one on and return what stands there: behind the newest, the draft."""
        self._at = min(self._at + 1, len(self._lines))
        return self._shown()

    @property
    def is_at_draft(self) -> bool:
        """Whether the place is behind the newest line."""
        return self._at == len(self._lines)

    def _shown(self) -> str:
        return self._draft if self.is_at_draft else self._lines[self._at]

    def _keep(self, line: str) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Appended in one write: two chats may keep their lines in the same file.
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                file.write(_encode(line))
                is_too_long = file.tell() > MAX_HISTORY_BYTES
            if is_too_long:
                # Half of it, so that the next cut is far away.
                write_atomically(self._path, _cut(self._lines, MAX_HISTORY_BYTES // 2), mode=0o600)
        except OSError:
            self._path = None  # a full or read-only disk is no reason not to chat


def _encode(line: str) -> bytes:
    return msgspec.json.encode(line) + b"\n"


def _cut(lines: list[str], max_bytes: int) -> bytes:
    """Return the newest lines that fit into `max_bytes` as a file's content."""
    kept: list[bytes] = []
    for line in reversed(lines):
        max_bytes -= len(encoded := _encode(line))
        if max_bytes < 0:
            break
        kept.append(encoded)
    return b"".join(reversed(kept))


def _read(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - MAX_HISTORY_BYTES))
            content = file.read()
    except OSError:
        return []
    lines = []
    for encoded in content.splitlines():
        try:
            lines.append(msgspec.json.decode(encoded, type=str))
        except msgspec.DecodeError:
            continue  # the first one may be a part, and people edit files
    return lines[-MAX_HISTORY_LINES:]
