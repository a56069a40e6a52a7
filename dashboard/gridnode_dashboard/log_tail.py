"""The end of a node's log file, and what is added to it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
from rich.text import Text

from gridnode_dashboard.formatting import plain

# What is read at once: some hundred lines; whoever wants more reads the file.
MAX_READ_BYTES = 64 * 1024
LEVELS = {"warning": "warn"}
COLOURS = {"debug": "dim", "warning": "yellow", "error": "red", "critical": "bold red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """One line of the file, as `gridnode.logs.JsonFormatter` writes it."""

    time: datetime
    level: str
    logger: str
    message: str
    exception: str = ""


class LogTail:
    """Follows a log file, also when it is shortened or replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inode = 0
        self._offset = 0
        self._rest = b""

    def read_new(self) -> list[LogRecord]:
        """Return the records that were added, at first the last ones of the file; none without a file."""
        try:
            with self.path.open("rb") as file:
                return self._read(file.fileno())
        except OSError:
            return []

    def _read(self, descriptor: int) -> list[LogRecord]:
        found = os.fstat(descriptor)
        if found.st_ino != self._inode or found.st_size < self._offset:
            self._inode, self._offset, self._rest = found.st_ino, 0, b""
        if found.st_size - self._offset > MAX_READ_BYTES:
            self._offset, self._rest = found.st_size - MAX_READ_BYTES, b""
        content = os.pread(descriptor, MAX_READ_BYTES, self._offset)
        self._offset += len(content)
        *lines, self._rest = (self._rest + content).split(b"\n")
        return [record for line in lines if (record := _decode(line)) is not None]


def _decode(line: bytes) -> LogRecord | None:
    try:
        return msgspec.json.decode(line, type=LogRecord)
    except msgspec.DecodeError:
        return None  # the rest of a line whose beginning was too far back


def record_text(record: LogRecord) -> Text:
    """Return a record as a line for people, in local time."""
    time = record.time.astimezone().strftime("%H:%M:%S")
    source = record.logger.rpartition(".")[2]
    message = plain(record.message) + (f"\n{plain(record.exception)}" if record.exception else "")
    colour = COLOURS.get(record.level, "")
    return Text.assemble(
        (time, "dim"),
        " ",
        (LEVELS.get(record.level, record.level[:5]).upper().ljust(5), colour),
        " ",
        (source, "cyan"),
        f" {message}",
    )
