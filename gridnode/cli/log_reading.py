"""Reading the log file of a node, also while the node writes it and puts it aside."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections import deque
from collections.abc import Generator, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.text import Text

from gridnode.cli.showing import printable, stdout
from gridnode.errors import NotRunning
from gridnode.logs import LOG_FILE, MAX_OLD_LOG_FILES, LogLevel

LOOK_INTERVAL_S = 0.25
_STYLES = {"warning": "yellow", "error": "red", "critical": "bold red"}


def log_file(state_dir: Path) -> Path:
    """Return the log file of the node in `state_dir`.

    Raises:
        NotRunning: no node has logged there.
    """
    file = state_dir / LOG_FILE
    if not file.exists():
        raise NotRunning(
            f"no node has logged in {state_dir} yet; start one with 'gridnode up', or name its directory "
            "with --state-dir"
        )
    return file


def last_lines(file: Path, count: int, *, least: LogLevel) -> list[str]:
    """Return the last `count` lines of at least this level, older files included, oldest first."""
    found: list[str] = []
    older = [file.with_name(f"{file.name}.{number}") for number in range(1, MAX_OLD_LOG_FILES + 1)]
    for path in (file, *older):
        if len(found) >= count or not path.exists():
            break
        with path.open(encoding="utf-8", errors="replace") as lines:
            kept = deque((line for line in lines if _is_at_least(line, least)), maxlen=count - len(found))
        found = [*kept, *found]
    return found


def follow_lines(file: Path, *, least: LogLevel) -> Generator[str, None, None]:
    """Yield every line of at least this level that is written from now on. Ends never."""
    part = ""
    with contextlib.ExitStack() as opened:
        stream = opened.enter_context(file.open(encoding="utf-8", errors="replace"))
        stream.seek(0, os.SEEK_END)
        while True:
            line = stream.readline()
            if line:
                part += line
                if part.endswith("\n"):
                    if _is_at_least(part, least):
                        yield part
                    part = ""
            elif _is_put_aside(file, stream.fileno()):  # and read to its end
                opened.close()
                stream = opened.enter_context(file.open(encoding="utf-8", errors="replace"))
            else:
                time.sleep(LOOK_INTERVAL_S)


def _is_put_aside(file: Path, descriptor: int) -> bool:
    """Return whether `file` is another one than the one that is open."""
    return file.exists() and not os.path.samestat(file.stat(), os.fstat(descriptor))


def print_lines(lines: Iterable[str], *, as_json: bool) -> None:
    """Print lines of the file: as they are, or for people."""
    console = stdout()
    for line in lines:
        if as_json:
            print(line.rstrip("\n"), flush=True)
        else:
            console.print(human_line(line), soft_wrap=True)


def human_line(line: str) -> Text:
    """Return a line of the file as people read it, in the time of this computer."""
    record = _parse(line)
    if record is None:
        return Text(printable(line.rstrip("\n")))
    level = str(record.get("level", ""))
    when = datetime.fromisoformat(record["time"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    text = Text(f"{when} ", style="")
    text.append(f"{level.upper():7}", style=_STYLES.get(level, ""))
    text.append(printable(f" {record.get('logger')}: {record.get('message')}"))
    if record.get("exception"):
        text.append(printable("\n" + record["exception"]), style="dim")
    return text


def _is_at_least(line: str, least: LogLevel) -> bool:
    record = _parse(line)
    if record is None:
        return True  # not ours: a person wrote it, or the disk was full
    levels = logging.getLevelNamesMapping()
    return levels.get(str(record.get("level", "")).upper(), logging.CRITICAL) >= levels[least.upper()]


def _parse(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
        datetime.fromisoformat(found["time"])
    except (ValueError, TypeError, KeyError):
        return None
    return found if isinstance(found, dict) else None
