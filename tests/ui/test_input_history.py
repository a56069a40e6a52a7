"""Earlier lines of the chat, in memory and in their file."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridnode_dashboard import input_history
from gridnode_dashboard.input_history import MAX_ENTRY_CHARACTERS, MAX_HISTORY_LINES, InputHistory


def lines(history: InputHistory) -> list[str]:
    """Return all lines, newest first."""
    found = []
    while (line := history.older("")) not in found[-1:]:
        found.append(line)
    return found


def test_the_draft_comes_back_behind_the_newest_line() -> None:
    history = InputHistory()
    history.add("one")
    history.add("two")
    assert history.older("dra") == "two"
    assert history.older("two") == "one"
    assert history.older("one") == "one"
    assert history.newer() == "two"
    assert history.newer() == "dra"
    assert history.is_at_draft


def test_the_next_chat_knows_the_lines_of_this_one(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history"
    first, other = InputHistory(path), InputHistory(path)
    first.add("a\nb")
    first.add("a\nb")
    other.add("ü")
    assert lines(InputHistory(path)) == ["ü", "a\nb"]
    assert path.stat().st_mode & 0o077 == 0


def test_the_file_is_cut_back_and_stays_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_history, "MAX_HISTORY_BYTES", 1000)
    path = tmp_path / "history"
    history = InputHistory(path)
    for number in range(MAX_HISTORY_LINES):
        history.add(f"line {number}")
        assert path.stat().st_size <= 1000
    history.add("x" * (MAX_ENTRY_CHARACTERS + 1))
    assert lines(InputHistory(path))[0] == f"line {MAX_HISTORY_LINES - 1}"
    assert path.stat().st_mode & 0o077 == 0


def test_a_broken_or_unwritable_file_is_no_reason_not_to_chat(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_bytes(b'"good"\nbad\n\xff\n"better"\n')
    assert lines(InputHistory(path)) == ["better", "good"]
    nowhere = InputHistory(tmp_path / "history" / "below a file")
    nowhere.add("hi")
    assert lines(nowhere) == ["hi"]
