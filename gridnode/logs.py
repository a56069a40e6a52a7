"""Logging for the operator: one logger per subsystem, human lines on standard error."""

from __future__ import annotations

import logging

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def configure_logging(level: str = "INFO") -> None:
    """Send the records of gridnode to standard error.

    Raises:
        ValueError: `level` is not a level of `logging`.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_FORMAT, datefmt="%H:%M:%S"))
    root = logging.getLogger("gridnode")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(level.upper())
    # aioquic logs every connection at INFO; its warnings matter to us.
    quic = logging.getLogger("quic")
    quic.handlers[:] = [handler]
    quic.setLevel(logging.WARNING)
