"""Errors on their way through the door: from exceptions to JSON, and back.

Every answer that is not what was asked for has the body
`{"error": {"code": "...", "message": "...", "details": {...}}}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gridnode.errors import ErrorCode, GridError, PeerRefused

STATUS_OF: Mapping[ErrorCode, int] = {
    ErrorCode.BAD_CHECKPOINT: 400,
    ErrorCode.BAD_INPUT: 400,
    ErrorCode.CONTEXT_FULL: 400,
    ErrorCode.KEY_REFUSED: 401,
    ErrorCode.MODEL_UNKNOWN: 404,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.ADDRESS_IN_USE: 500,
    ErrorCode.INTERNAL: 500,
    ErrorCode.ENGINE_FAILED: 502,
    ErrorCode.ENGINE_LOST: 502,
    ErrorCode.FRAME_TOO_LARGE: 502,
    ErrorCode.PEER_LOST: 502,
    ErrorCode.PEER_REFUSED: 502,
    ErrorCode.PROTOCOL: 502,
    ErrorCode.SWARM_REFUSED: 502,
    ErrorCode.UNAUTHENTIC: 502,
    ErrorCode.WRONG_MODEL: 502,
    ErrorCode.CACHE_FULL: 503,
    ErrorCode.CONNECTION_CLOSED: 503,
    ErrorCode.MODEL_LOADING: 503,
    ErrorCode.NO_CAPACITY: 503,
    ErrorCode.NO_ROUTE: 503,
    ErrorCode.NO_TRAINING: 503,
    ErrorCode.NOT_RUNNING: 503,
    ErrorCode.SESSION_IDLE: 503,
    ErrorCode.WRONG_SPAN: 503,
    ErrorCode.TIMEOUT: 504,
}
"""HTTP status of every error code: 4xx the request is at fault, 502 a peer, 503 try again later."""

# The attributes that errors carry besides their text, with what stands there if nobody said.
_DETAILS: Mapping[ErrorCode, Mapping[str, Any]] = {
    ErrorCode.CACHE_FULL: {"wanted_tokens": 0, "free_tokens": 0},
    ErrorCode.CONTEXT_FULL: {"wanted_tokens": 0, "limit_tokens": 0},
    ErrorCode.FRAME_TOO_LARGE: {"length_bytes": 0, "limit_bytes": 0},
    ErrorCode.MODEL_LOADING: {"loaded_blocks": 0, "wanted_blocks": 0},
    ErrorCode.NO_ROUTE: {"gaps": ()},
    ErrorCode.PEER_REFUSED: {"reason": ErrorCode.INTERNAL},
    ErrorCode.RATE_LIMITED: {"limit": 0, "retry_after_s": 0.0},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody:
    """What went wrong, in JSON."""

    code: ErrorCode
    message: str
    details: dict[str, Any] = field(default_factory=dict)
    """The numbers of the error, by the names of its attributes."""


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """Body of every answer that is not what was asked for."""

    error: ErrorBody


def status_of(body: ErrorBody) -> int:
    """Return the HTTP status of an error; a peer that has no room now is no broken peer."""
    status = STATUS_OF[body.code]
    if body.code is ErrorCode.PEER_REFUSED:
        reason = STATUS_OF[body.details.get("reason", ErrorCode.INTERNAL)]
        return reason if reason == 503 else status
    return status


def describe_error(exc: GridError) -> ErrorBody:
    """Return `exc` in the words of the door."""
    if isinstance(exc, PeerRefused) and exc.reason is ErrorCode.BAD_INPUT:
        # A hop found what the request asks unusable: asking again, or elsewhere, does not help.
        return ErrorBody(code=ErrorCode.BAD_INPUT, message=str(exc))
    details = {name: getattr(exc, name) for name in _DETAILS.get(exc.code, {})}
    return ErrorBody(code=exc.code, message=str(exc), details=details)


def restore_error(body: ErrorBody) -> GridError:
    """Return the exception that the door described: same class, code, text and numbers."""
    if body.code is ErrorCode.PEER_REFUSED:
        return PeerRefused(body.message, reason=ErrorCode(body.details.get("reason", ErrorCode.INTERNAL)))
    # The constructors that take numbers write their own text; this one is written already.
    kind = _CLASSES.get(body.code, GridError)
    error = kind.__new__(kind, body.message)
    for name, default in _DETAILS.get(body.code, {}).items():
        setattr(error, name, _as_tuples(body.details.get(name, default)))
    return error


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _subclasses(kind: type[GridError]) -> Iterator[type[GridError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _subclasses(child)


# One class per code: those of the tree. Other modules refine them for themselves and share their codes.
_CLASSES = {kind.code: kind for kind in _subclasses(GridError) if kind.__module__ == GridError.__module__}
