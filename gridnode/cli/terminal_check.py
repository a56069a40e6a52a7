"""Interfaces that need a terminal say so instead of drawing into a file."""

from __future__ import annotations

import sys

from gridnode.errors import BadInput


def need_terminal(instead: str) -> None:
    """Check that people sit at both ends.

    Args:
        instead: What programs use.

    Raises:
        BadInput: standard input or output is no terminal.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadInput(f"this needs a terminal; for programs there is '{instead}'")
