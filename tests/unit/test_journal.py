"""Entries of the journal, read by a socket of this test."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridnode import logs
from gridnode.journal import MAX_ENTRY_BYTES, JournalHandler, is_journal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "journal"))
        listener.settimeout(10)
        yield listener


@pytest.fixture
def logger(journal: socket.socket) -> Iterator[logging.Logger]:
    found = logging.Logger("gridnode.test")
    handler = JournalHandler(Path(journal.getsockname()))
    found.addHandler(handler)
    yield found
    handler.close()


def read(datagram: bytes) -> dict[str, str]:
    """Return the fields of an entry, as journald reads them."""
    fields = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + size], rest[8 + size + 1 :]
        fields[name.decode()] = value.decode()
        datagram = rest
    return fields


def test_an_entry_has_fields(journal: socket.socket, logger: logging.Logger) -> None:
    logger.warning("peer %s is gone", "abc")
    found = read(journal.recv(MAX_ENTRY_BYTES))
    assert found["MESSAGE"] == "peer abc is gone"
    assert (found["PRIORITY"], found["LOGGER"], found["SYSLOG_IDENTIFIER"]) == (
        "4",
        "gridnode.test",
        "gridnode",
    )
    assert found["CODE_FILE"] == __file__


def test_lines_and_tracebacks_stay_together(journal: socket.socket, logger: logging.Logger) -> None:
    try:
        raise ValueError("odd=1\nthing")
    except ValueError:
        logger.exception("it broke\nPRIORITY=0")
    found = read(journal.recv(MAX_ENTRY_BYTES))
    assert found["MESSAGE"] == "it broke\nPRIORITY=0"
    assert found["PRIORITY"] == "3"
    assert found["EXCEPTION"].endswith("ValueError: odd=1\nthing")


def test_a_long_entry_is_cut_and_a_journal_that_is_gone_harms_nobody(
    journal: socket.socket, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logger.info("x" * 10 * MAX_ENTRY_BYTES)
    assert len(read(journal.recv(MAX_ENTRY_BYTES))["MESSAGE"]) == MAX_ENTRY_BYTES // 2
    Path(journal.getsockname()).unlink()
    logger.info("nobody hears this")
    assert capsys.readouterr().err == ""


def test_standard_error_is_known_by_its_inode(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream:
        found = os.fstat(stream.fileno())
        assert is_journal(stream.fileno(), {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
        assert not is_journal(stream.fileno(), {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"})
        assert not is_journal(stream.fileno(), {})


def test_fields_are_sent_where_lines_would_go_to_the_journal(
    journal: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = os.fstat(2)
    monkeypatch.setattr(logs, "JOURNAL_SOCKET", Path(journal.getsockname()))
    assert not isinstance(logs._stream(logs.LogFormat.HUMAN), JournalHandler)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    handler = logs._stream(logs.LogFormat.HUMAN)
    assert isinstance(handler, JournalHandler)
    handler.close()
    assert not isinstance(logs._stream(logs.LogFormat.JSON), JournalHandler)
