"""How commands end: an exit code for programs, one or two plain lines for people."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

import typer

from gridnode.errors import ErrorCode, GridError, PeerRefused

OK = 0
FAILED = 1
USAGE = 2
NOT_RUNNING = 3
NOT_READY = 4
NO_CAPACITY = 5
UNAUTHENTIC = 6
INTERRUPTED = 130
"""128 + SIGINT, as shells count."""

BROKEN_PIPE = 141
"""128 + SIGPIPE."""

_EXIT_CODES = {
    ErrorCode.BAD_INPUT: USAGE,
    ErrorCode.NOT_RUNNING: NOT_RUNNING,
    ErrorCode.ENGINE_LOST: NOT_READY,
    ErrorCode.MODEL_LOADING: NOT_READY,
    ErrorCode.CACHE_FULL: NO_CAPACITY,
    ErrorCode.CONTEXT_FULL: NO_CAPACITY,
    ErrorCode.NO_CAPACITY: NO_CAPACITY,
    ErrorCode.NO_ROUTE: NO_CAPACITY,
    ErrorCode.NO_TRAINING: NO_CAPACITY,
    ErrorCode.RATE_LIMITED: NO_CAPACITY,
    ErrorCode.SESSION_IDLE: NO_CAPACITY,
    ErrorCode.WRONG_SPAN: NO_CAPACITY,
    ErrorCode.KEY_REFUSED: UNAUTHENTIC,
    ErrorCode.SWARM_REFUSED: UNAUTHENTIC,
    ErrorCode.UNAUTHENTIC: UNAUTHENTIC,
}


class NotReady(GridError):
    """Raised when the node is there but cannot do yet what was asked."""

    code = ErrorCode.NO_CAPACITY


def exit_code(exc: GridError) -> int:
    """Return the exit code for an error."""
    if isinstance(exc, NotReady):
        return NOT_READY
    if isinstance(exc, PeerRefused) and _EXIT_CODES.get(exc.reason) == NO_CAPACITY:
        return NO_CAPACITY  # it is the same to the caller which node has no room
    return _EXIT_CODES.get(exc.code, FAILED)


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Turn every way in which a command can fail into its exit code, without a traceback.

    With the log level `debug` tracebacks are shown.
    """
    try:
        yield
    except GridError as exc:
        _show_traceback()
        complain(str(exc))
        sys.exit(exit_code(exc))
    except (KeyboardInterrupt, typer.Abort):  # typer has a word of its own for Ctrl-C at a question
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has left; Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    except Exception as exc:  # noqa: BLE001 - the edge of the program: people get a sentence
        _show_traceback()
        complain(f"internal error: {type(exc).__name__}: {exc}; --log-level debug shows where")
        sys.exit(FAILED)


def complain(text: str) -> None:
    """Write what went wrong to standard error."""
    from gridnode.cli.showing import printable  # loads rich, which most commands end without

    # Other nodes wrote some of it.
    print(f"gridnode: {printable(text)}", file=sys.stderr)


def _show_traceback() -> None:
    logger = logging.getLogger("gridnode")
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("the command failed", exc_info=True)
