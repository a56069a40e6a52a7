"""Errors keep their class, text and numbers through the door."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from gridnode.control.door_errors import STATUS_OF, ErrorBody, describe_error, restore_error, status_of
from gridnode.errors import (
    BadCheckpoint,
    CacheFull,
    ContextFull,
    EngineLost,
    ErrorCode,
    GridError,
    KeyRefused,
    NoRoute,
    PeerRefused,
    RateLimited,
)


def test_every_code_has_a_status() -> None:
    assert set(STATUS_OF) == set(ErrorCode)


@pytest.mark.parametrize(
    "error",
    [
        BadCheckpoint("block 7 is missing"),
        CacheFull(900, 100),
        ContextFull(9000, 8192),
        EngineLost("the worker died"),
        KeyRefused("this door wants a key"),
        RateLimited("60 requests per minute", limit=60, retry_after_s=1.5),
        NoRoute("tiny", 30, ((0, 10), (20, 30))),
        PeerRefused("bbbbbbbb has no room", reason=ErrorCode.CACHE_FULL),
        GridError("anything else"),
    ],
)
def test_errors_come_back_as_they_went(error: GridError) -> None:
    json = msgspec.json.encode(describe_error(error))
    restored = restore_error(msgspec.json.decode(json, type=ErrorBody))
    assert type(restored) is type(error)
    assert str(restored) == str(error)
    for name in ("wanted_tokens", "free_tokens", "limit_tokens", "gaps", "reason", "limit", "retry_after_s"):
        assert getattr(restored, name, None) == getattr(error, name, None)


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [
        (ErrorCode.BAD_INPUT, 400, ErrorCode.BAD_INPUT),
        (ErrorCode.CACHE_FULL, 503, ErrorCode.PEER_REFUSED),
        (ErrorCode.WRONG_SPAN, 503, ErrorCode.PEER_REFUSED),
        (ErrorCode.ENGINE_FAILED, 502, ErrorCode.PEER_REFUSED),
    ],
)
def test_what_a_peer_refuses_is_told_by_its_reason(reason: ErrorCode, status: int, code: ErrorCode) -> None:
    body = describe_error(PeerRefused("bbbbbbbb refused", reason=reason))
    assert (status_of(body), body.code) == (status, code)


def test_numbers_that_nobody_sent_are_zero() -> None:
    restored = restore_error(ErrorBody(code=ErrorCode.CACHE_FULL, message="full"))
    assert isinstance(restored, CacheFull)
    assert restored.free_tokens == 0


def test_classes_that_share_a_code_do_not_replace_those_of_the_tree() -> None:
    code = "import gridnode.cli.ending, gridnode.control.door_errors as d; print(d._CLASSES['no_capacity'])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "<class 'gridnode.errors.NoCapacity'>"
