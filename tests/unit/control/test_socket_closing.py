"""Codes and reasons at the end of a WebSocket."""

from __future__ import annotations

import pytest

from gridnode.control.socket_closing import MAX_REASON_BYTES, closing_code, closing_reason


@pytest.mark.parametrize(
    ("status", "code"), [(400, 1000), (401, 1008), (403, 1008), (429, 1013), (503, 1013), (502, 1000)]
)
def test_a_page_sees_whether_to_give_up_or_to_come_back(status: int, code: int) -> None:
    assert closing_code(status) == code


@pytest.mark.parametrize("text", ["short", "x" * MAX_REASON_BYTES, "x" * 200, "ä" * 100, "x" + "😀" * 50])
def test_a_reason_is_cut_between_characters(text: str) -> None:
    reason = closing_reason(text)
    assert len(reason.encode()) <= MAX_REASON_BYTES
    assert reason == text or (reason.endswith("…") and text.startswith(reason[:-1]))
    assert len(reason.encode()) > MAX_REASON_BYTES - 6 or reason == text
