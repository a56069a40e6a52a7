"""What is meant for people, as lines of the log on standard error, for who asked for JSON there."""

from __future__ import annotations

import io
import logging
import sys

from rich.console import Console

from gridnode.logs import JsonFormatter

LOGGER = "gridnode.up"


def json_console() -> Console:
    """Return a console whose lines are JSON objects on standard error.

    They do not go to the log file: the first key of a door is among them.
    """
    return Console(file=_JsonLines(), highlight=False, no_color=True)


class _JsonLines(io.StringIO):
    def write(self, text: str) -> int:
        """Write every line as a record of the log."""
        for line in filter(None, map(str.strip, text.splitlines())):
            record = logging.LogRecord(LOGGER, logging.INFO, __file__, 0, line, None, None)
            sys.stderr.write(JsonFormatter().format(record) + "\n")
        sys.stderr.flush()
        return len(text)
