"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from gridnode.control.door_errors import ErrorBody, status_of
from gridnode.control.door_response import error_response
from gridnode.errors import BadInput, ErrorCode

# Clients decide by these words whether to shorten a prompt, to choose another model, or to try again.
_CODES = {
    ErrorCode.CONTEXT_FULL: "context_length_exceeded",
    ErrorCode.MODEL_UNKNOWN: "model_not_found",
    ErrorCode.KEY_REFUSED: "invalid_api_key",
    ErrorCode.RATE_LIMITED: "rate_limit_exceeded",
}
_PARAMS = {ErrorCode.MODEL_UNKNOWN: "model"}


class BadField(BadInput):
    """Raised when one field of a request cannot be used.

    Attributes:
        param: Where it stands: `messages[0].content`.
    """

    def __init__(self, text: str, *, param: str) -> None:
        super().__init__(text)
        self.param = param


class ApiError(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong, in the words of OpenAI."""

    message: str
    type: str
    """`invalid_request_error`, `rate_limit_error` or `server_error`."""

    param: str | None
    """The field at fault, if it is one."""

    code: str
    """One stable word: OpenAI's where there is one, gridnode's otherwise."""

    details: dict[str, Any]
    """The numbers of the error."""


class ApiErrorAnswer(msgspec.Struct, frozen=True):
    """Body of every answer that is not what was asked for."""

    error: ApiError


def api_error(body: ErrorBody, *, param: str | None = None, status: int | None = None) -> ApiErrorAnswer:
    """Return `body` in OpenAI's words."""
    return ApiErrorAnswer(
        ApiError(
            message=_message(body),
            type=_type(status or status_of(body)),
            param=param or _PARAMS.get(body.code),
            code=_code(body.code, status),
            details=body.details,
        )
    )


def api_error_response(body: ErrorBody, *, param: str | None = None, status: int | None = None) -> Response:
    """Return the answer for an error: the door's status and headers, OpenAI's body."""
    return error_response(body, status=status, words=api_error(body, param=param, status=status))


def _message(body: ErrorBody) -> str:
    if body.code is ErrorCode.CONTEXT_FULL and body.details:
        # Programs that shorten conversations look for the first words.
        return (
            f"This model's maximum context length is {body.details['limit_tokens']} tokens on the present "
            f"route. However, this request needs {body.details['wanted_tokens']} tokens at least. "
            "Please shorten it; nothing is ever cut silently."
        )
    return body.message


def _code(code: ErrorCode, status: int | None) -> str:
    if code is ErrorCode.KEY_REFUSED and status == 403:
        return "insufficient_permissions"  # the key is right, and not for this
    return _CODES.get(code, str(code))


def _type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"
