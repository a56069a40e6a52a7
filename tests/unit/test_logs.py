"""Where log records go, and in which form."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridnode import logs
from gridnode.logs import LogFormat, LogLevel, LogPlan, apply_inherited_plan, apply_plan

logger = logging.getLogger("gridnode.test")


@pytest.fixture(autouse=True)
def loggers_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("_GRIDNODE_LOG_PLAN", "{}")
    kept = {
        name: (list(log.handlers), log.level, log.propagate)
        for name in ("gridnode", "quic")
        for log in [logging.getLogger(name)]
    }
    for name in kept:
        logging.getLogger(name).handlers.clear()
    yield
    for name, (handlers, level, propagate) in kept.items():
        log = logging.getLogger(name)
        for handler in log.handlers:
            handler.close()
        log.handlers[:], log.level, log.propagate = handlers, level, propagate
        log.setLevel(level)


def test_people_get_lines_and_the_file_gets_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gridnode.log"
    apply_plan(LogPlan(level=LogLevel.WARNING, file=str(file)))
    logger.info("peer %s came", "abc")
    logger.warning("peer %s is gone", "abc")
    logger.debug("never mind")
    assert [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()] == [
        "WARNING gridnode.test: peer abc is gone"
    ]
    first, second = map(json.loads, file.read_text().splitlines())
    assert (first["level"], first["message"]) == ("info", "peer abc came")
    assert (second["level"], second["logger"], second["pid"]) == ("warning", "gridnode.test", os.getpid())
    assert first["time"].endswith("+00:00")


def test_programs_get_json_with_the_traceback_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    apply_plan(LogPlan(format=LogFormat.JSON))
    try:
        raise ValueError("odd\nthing")
    except ValueError:
        logger.exception("it broke")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: odd" in json.loads(line)["exception"]


def test_the_file_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs, "MAX_LOG_FILE_BYTES", 2000)
    file = tmp_path / "gridnode.log"
    apply_plan(LogPlan(level=LogLevel.ERROR, file=str(file)))
    for _ in range(200):
        logger.info("x" * 100)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 1 + logs.MAX_OLD_LOG_FILES
    assert max(sizes) <= 2000
    assert capsys.readouterr().err == ""


def test_a_child_logs_to_the_file_that_the_node_puts_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gridnode.log"
    apply_plan(LogPlan(file=str(file)))
    environ = dict(os.environ)
    apply_inherited_plan(environ)
    logger.info("before")
    file.rename(tmp_path / "gridnode.log.1")
    logger.info("after")
    assert json.loads(file.read_text())["message"] == "after"


def test_a_worker_without_a_node_logs_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    apply_inherited_plan({})
    logger.info("alone")
    assert "gridnode.test: alone" in capsys.readouterr().err
