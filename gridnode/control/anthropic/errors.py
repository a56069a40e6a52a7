"""Errors in Anthropic's shape: `{"type": "error", "error": {"type", "message"}}`."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from starlette.responses import Response

from gridnode.control.door_errors import ErrorBody, status_of
from gridnode.control.door_response import error_response
from gridnode.errors import ErrorCode

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class ApiError(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong, in the words of Anthropic."""

    type: str
    message: str
    details: dict[str, Any]
    """The numbers of the error."""


class ApiErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Body of every answer that is not what was asked for, and the last event of a stream that failed."""

    error: ApiError
    type: Literal["error"] = "error"


def api_error(body: ErrorBody, *, status: int | None = None) -> ApiErrorAnswer:
    """Return `body` in Anthropic's words."""
    number = status or status_of(body)
    kind = _TYPES.get(number, "invalid_request_error" if number < 500 else "api_error")
    return ApiErrorAnswer(error=ApiError(type=kind, message=_message(body), details=body.details))


def refuse(body: ErrorBody, *, status: int | None = None) -> Response:
    """Return the answer for an error."""
    return error_response(body, status=status, words=api_error(body, status=status))


def _message(body: ErrorBody) -> str:
    if body.code is ErrorCode.CONTEXT_FULL and body.details:
        # Programs that shorten conversations look for these words.
        wanted, limit = body.details["wanted_tokens"], body.details["limit_tokens"]
        return f"prompt is too long: {wanted} tokens > {limit} maximum on the present route of the swarm"
    return body.message
