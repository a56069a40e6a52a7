"""The configuration of a running node, read again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridnode.cli.live_config import LiveConfig
from gridnode.config.layers import Given
from gridnode.config.node_config import NodeConfig
from gridnode.errors import BadInput
from gridnode.logs import LOG_FILE


class RenamedNode:
    """Remembers its names; nothing else of a node is asked for."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def reconfigure(self, config: NodeConfig) -> None:
        self.names.append(config.public_name)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    monkeypatch.setenv("GRIDNODE_CONFIG", str(path))
    monkeypatch.setenv("GRIDNODE_NODE_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("_GRIDNODE_LOG_PLAN", "{}")
    return path


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("gridnode", "quic")]
    kept = [(list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers.clear()
    yield
    for logger, (handlers, level, propagate) in zip(loggers, kept, strict=True):
        for handler in logger.handlers:
            handler.close()
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


def test_flags_stay_what_they_were(file: Path) -> None:
    file.write_text("[limits]\nthreads = 1\n[node]\nname = 'Ada'\n")
    config = LiveConfig({"limits.threads": Given(2, "flag", "--threads")}, is_terminal=False)
    assert (config.present.threads, config.present.public_name) == (2, "Ada")
    node = RenamedNode()
    file.write_text("[limits]\nthreads = 3\n[node]\nname = 'Bo'\n")
    config.reload(node)  # type: ignore[arg-type]
    assert (config.present.threads, node.names) == (2, ["Bo"])


def test_a_bad_file_changes_nothing(file: Path) -> None:
    config = LiveConfig({}, is_terminal=False)
    before, node = config.present, RenamedNode()
    file.write_text("[node]\nnam = 'Bo'\n")
    config.reload(node)  # type: ignore[arg-type]
    assert config.present == before
    assert not node.names


def test_the_level_of_the_log_changes_at_once(file: Path, tmp_path: Path) -> None:
    config = LiveConfig({}, is_terminal=True)
    config.start_logging()
    assert logging.getLogger("gridnode").level == logging.INFO  # of the file
    file.write_text("[log]\nlevel = 'debug'\n")
    config.reload(RenamedNode())  # type: ignore[arg-type]
    assert logging.getLogger("gridnode").level == logging.DEBUG
    assert "log.level is taken over" in (tmp_path / LOG_FILE).read_text()


def test_a_log_that_cannot_be_written_is_named(file: Path, tmp_path: Path) -> None:
    (tmp_path / LOG_FILE).mkdir()
    with pytest.raises(BadInput, match=LOG_FILE):
        LiveConfig({}, is_terminal=True).start_logging()


def test_a_named_file_that_is_not_there_is_told(file: Path, tmp_path: Path) -> None:
    config = LiveConfig({}, is_terminal=True)
    config.start_logging()
    config.warn_of_strange_variables()
    assert f"GRIDNODE_CONFIG names {file}, which does not exist" in (tmp_path / LOG_FILE).read_text()
