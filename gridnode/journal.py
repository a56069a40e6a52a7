"""Logging to the journal of systemd with fields, in its own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path

JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
# The protocol takes more by another way; a datagram of this size passes everywhere.
MAX_ENTRY_BYTES = 128 * 1024
# syslog(3): what journalctl -p chooses by.
_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}


class JournalHandler(logging.Handler):
    """Sends each record as one entry: `MESSAGE`, `PRIORITY`, `LOGGER`, `EXCEPTION`, and where it came from.

    An entry that cannot be sent is dropped: the log file has it.
    """

    def __init__(self, path: Path = JOURNAL_SOCKET) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._path = str(path)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        with contextlib.suppress(OSError):
            self._socket.sendto(entry(record), self._path)

    def close(self) -> None:
        """Close the socket. Safe to call more than once."""
        self._socket.close()
        super().close()


def entry(record: logging.LogRecord) -> bytes:
    """Return the datagram for `record`. Pure."""
    fields = {
        "MESSAGE": record.getMessage(),
        "PRIORITY": str(_PRIORITIES.get(record.levelno, 6)),
        "SYSLOG_IDENTIFIER": "gridnode",
        "LOGGER": record.name,
        "CODE_FILE": record.pathname,
        "CODE_LINE": str(record.lineno),
        "CODE_FUNC": record.funcName or "",
    }
    if record.exc_info:
        fields["EXCEPTION"] = logging.Formatter().formatException(record.exc_info)
    room = MAX_ENTRY_BYTES // 2  # of the two long ones
    return b"".join(_field(name, text.encode(errors="replace")[:room]) for name, text in fields.items())


def _field(name: str, value: bytes) -> bytes:
    if b"\n" not in value:
        return b"%s=%s\n" % (name.encode(), value)
    return b"%s\n%s%s\n" % (name.encode(), len(value).to_bytes(8, "little"), value)


def is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Return whether `descriptor` leads to the journal (`JOURNAL_STREAM`, systemd.exec(5))."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))
