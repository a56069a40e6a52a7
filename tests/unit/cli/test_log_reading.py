"""`gridnode logs`: the last lines, and those to come."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from pathlib import Path

import pytest

from gridnode.cli.log_reading import follow_lines, human_line, last_lines, log_file
from gridnode.errors import NotRunning
from gridnode.logs import LogLevel


def line(message: str, level: str = "info", **more: str) -> str:
    fields = {"time": "2026-01-02T03:04:05.678+00:00", "level": level, "logger": "gridnode.net", "pid": 1}
    return json.dumps(fields | {"message": message} | more) + "\n"


def messages(lines: list[str]) -> list[str]:
    return [json.loads(text)["message"] for text in lines]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gridnode.log"
    path.write_text(line("three") + line("four", "warning"))
    (tmp_path / "gridnode.log.1").write_text(line("one") + line("two"))
    return path


def test_the_last_lines_reach_into_older_files(file: Path) -> None:
    assert messages(last_lines(file, 1, least=LogLevel.DEBUG)) == ["four"]
    assert messages(last_lines(file, 3, least=LogLevel.DEBUG)) == ["two", "three", "four"]
    assert messages(last_lines(file, 99, least=LogLevel.DEBUG)) == ["one", "two", "three", "four"]
    assert last_lines(file, 0, least=LogLevel.DEBUG) == []


def test_a_level_leaves_lesser_lines_out_and_strange_ones_in(file: Path) -> None:
    file.write_text(file.read_text() + "no JSON\n")
    found = last_lines(file, 9, least=LogLevel.WARNING)
    assert messages(found[:1]) == ["four"]
    assert found[1:] == ["no JSON\n"]


def test_following_goes_on_in_a_new_file(file: Path) -> None:
    def write() -> None:
        with file.open("a") as log:
            log.write(line("five") + line("quiet", "debug"))
            log.write(line("six")[:10])
            log.flush()
            log.write(line("six")[10:])
        file.rename(file.with_name("gridnode.log.1"))
        file.write_text(line("seven"))

    # The first line is asked for before it is written.
    threading.Timer(0.05, write).start()
    with contextlib.closing(follow_lines(file, least=LogLevel.INFO)) as found:
        assert messages(list(itertools.islice(found, 3))) == ["five", "six", "seven"]


def test_people_read_lines_and_terminals_are_not_steered() -> None:
    text = human_line(line("peer \x1b[2J is gone", "warning", exception="Traceback\n  here")).plain
    assert text.startswith("2026-01-0")
    assert "WARNING gridnode.net: peer \ufffd[2J is gone\nTraceback\n  here" in text
    assert human_line("no JSON\n").plain == "no JSON"


def test_without_a_log_it_says_what_to_start(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="gridnode up"):
        log_file(tmp_path)
