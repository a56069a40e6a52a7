from __future__ import annotations

import pytest

from gridnode.cli.ending import FAILED, NO_CAPACITY, NOT_READY, USAGE, NotReady, exit_code
from gridnode.errors import (
    BadCheckpoint,
    BadInput,
    CacheFull,
    ErrorCode,
    GridError,
    ModelLoading,
    PeerRefused,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadInput("no such flag"), USAGE),
        (BadCheckpoint("weights are truncated"), FAILED),
        (CacheFull(900, 100), NO_CAPACITY),
        (ModelLoading("3 of 10 blocks are loaded"), NOT_READY),
        (NotReady("still loading"), NOT_READY),
    ],
)
def test_an_error_has_the_exit_code_of_its_kind(error: GridError, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (ErrorCode.CACHE_FULL, NO_CAPACITY),
        (ErrorCode.NO_CAPACITY, NO_CAPACITY),
        (ErrorCode.RATE_LIMITED, NO_CAPACITY),
        (ErrorCode.BAD_INPUT, FAILED),
        (ErrorCode.ENGINE_FAILED, FAILED),
        (ErrorCode.ENGINE_LOST, FAILED),
        (ErrorCode.UNAUTHENTIC, FAILED),
    ],
)
def test_a_peer_without_room_is_no_failure(reason: ErrorCode, code: int) -> None:
    assert exit_code(PeerRefused("node bbbbbbbb refused", reason=reason)) == code
