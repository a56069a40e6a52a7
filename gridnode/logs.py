"""Logging for the operator: lines for people, JSON or the journal's fields on standard error, and a file
of limited size.

One logger per subsystem. The file holds JSON, one object a line: `gridnode logs` makes lines of them.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from logging.handlers import RotatingFileHandler, WatchedFileHandler

from gridnode.journal import JOURNAL_SOCKET, JournalHandler, is_journal

LOG_FILE = "gridnode.log"

# A year of a quiet node, some days of a talkative one; with the older files 32 MiB at most.
MAX_LOG_FILE_BYTES = 8 * 1024 * 1024
MAX_OLD_LOG_FILES = 3

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_PLAN_VARIABLE = "_GRIDNODE_LOG_PLAN"
"""How a node tells its engine worker where to log."""


class LogLevel(StrEnum):
    """Least level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """Form of the lines on standard error."""

    HUMAN = "human"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPlan:
    """Where the records of gridnode go."""

    level: LogLevel = LogLevel.INFO
    """Of standard error."""

    format: LogFormat = LogFormat.HUMAN
    """Of standard error."""

    file: str = ""
    """The log file; empty keeps none. It holds what is at least INFO, or `level` if that is less."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with `time` (UTC), `level`, `logger`, `pid`, `message` and `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def configure_logging(level: str = "INFO") -> None:
    """Send the records of gridnode to standard error, for people.

    Raises:
        ValueError: `level` is not a level.
    """
    apply_plan(LogPlan(level=LogLevel(level.lower())))


def apply_plan(plan: LogPlan) -> None:
    """Send the records of gridnode where `plan` says. May be called again with another one.

    Raises:
        OSError: the file cannot be written.
    """
    file = (
        RotatingFileHandler(
            plan.file, maxBytes=MAX_LOG_FILE_BYTES, backupCount=MAX_OLD_LOG_FILES, encoding="utf-8"
        )
        if plan.file
        else None
    )
    _install(plan, file)
    os.environ[_PLAN_VARIABLE] = json.dumps(asdict(plan))


def apply_inherited_plan(environ: Mapping[str, str]) -> None:
    """Log where the node logs that started this process; the node alone shortens the file."""
    plan = LogPlan(**json.loads(environ.get(_PLAN_VARIABLE, "{}")))
    # Reopens the file when the node has put it aside. Lines are appended whole, also those of others.
    _install(plan, WatchedFileHandler(plan.file, encoding="utf-8") if plan.file else None)


def _stream(form: LogFormat) -> logging.Handler:
    """Return what writes to standard error; to the journal behind it with fields, if there is one."""
    if form == LogFormat.HUMAN and is_journal(2, os.environ) and JOURNAL_SOCKET.exists():
        return JournalHandler()
    stream = logging.StreamHandler()
    stream.setFormatter(
        JsonFormatter() if form == LogFormat.JSON else logging.Formatter(_FORMAT, datefmt="%H:%M:%S")
    )
    return stream


def _install(plan: LogPlan, file: logging.Handler | None) -> None:
    stream = _stream(plan.format)
    stream.setLevel(plan.level.upper())
    handlers: list[logging.Handler] = [stream]
    if file:
        file.setFormatter(JsonFormatter())
        handlers.append(file)
    root = logging.getLogger("gridnode")
    old = list(root.handlers)
    root.handlers[:] = handlers
    root.propagate = False
    least = logging.getLevelName(plan.level.upper())
    root.setLevel(min(least, logging.INFO) if file else least)
    # aioquic logs every connection at INFO; its warnings matter to us.
    quic = logging.getLogger("quic")
    quic.handlers[:] = handlers
    quic.setLevel(logging.WARNING)
    for handler in old:
        handler.close()
