"""Answers of the door: records and errors as JSON."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from starlette.responses import Response

from gridnode.control.door_errors import ErrorAnswer, ErrorBody, status_of
from gridnode.errors import ErrorCode

# Long enough for a node to load some blocks or for a session to end, short enough to feel alive.
RETRY_AFTER_S = 5


def json_response(record: Any, *, status: int = 200) -> Response:
    """Return a record as JSON; 503 says when to come back (RFC 9110, section 10.2.3)."""
    headers = {"Cache-Control": "no-store"}
    if status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return Response(msgspec.json.encode(record), status, headers=headers, media_type="application/json")


def error_response(body: ErrorBody, *, status: int | None = None, words: Any = None) -> Response:
    """Return the answer for an error.

    Args:
        status: Overrides the table.
        words: What a dialect says instead of the door's `ErrorAnswer`.
    """
    response = json_response(words or ErrorAnswer(body), status=status or status_of(body))
    if body.code is ErrorCode.RATE_LIMITED:
        response.headers["Retry-After"] = str(math.ceil(body.details["retry_after_s"]))
    return response
