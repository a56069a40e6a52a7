"""Errors in the words of Petals' chat: `{"ok": false, "traceback": "..."}`."""

from __future__ import annotations

from starlette.responses import Response

from gridnode.control.door_errors import ErrorBody
from gridnode.control.door_response import error_response
from gridnode.control.petals.requests import Trouble
from gridnode.errors import ErrorCode

# Clients open a longer session, or say that the swarm is full, when they find these words.
_FIRST_WORDS = {
    ErrorCode.CONTEXT_FULL: "Maximum length exceeded",
    ErrorCode.CACHE_FULL: "attention cache is full",
    ErrorCode.NO_CAPACITY: "attention cache is full",
    ErrorCode.TIMEOUT: "Session expired",
}


def trouble(body: ErrorBody) -> Trouble:
    """Return `body` in Petals' words."""
    first = _FIRST_WORDS.get(body.code)
    return Trouble(traceback=f"{first}: {body.message}" if first else body.message)


def refuse(body: ErrorBody, *, status: int | None = None) -> Response:
    """Return the answer for an error. Petals said 200 in any case; clients read `ok`."""
    return error_response(body, status=status, words=trouble(body))
