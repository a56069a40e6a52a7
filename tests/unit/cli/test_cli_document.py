"""`docs/cli.md` keeps step with the commands and with what they print."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import get_args

from cli_reference import RECORDS, commands, prints_json, reference

from gridnode.cli import ending
from gridnode.control.answer_schema import GenerateEvent

DOCUMENT = Path(__file__).parents[3] / "docs" / "cli.md"
MARK = "by 'make docs'. -->\n"
EVENTS = {"up", "monitor", "relay"}


def test_commands_and_fields_are_documented() -> None:
    text = DOCUMENT.read_text()
    expected = text[: text.index(MARK) + len(MARK)] + reference()
    if "UPDATE_DOCS" in os.environ:
        DOCUMENT.write_text(expected)
    assert DOCUMENT.read_text() == expected, "'make docs' writes it anew"


def test_every_command_that_prints_json_says_which_record() -> None:
    assert {name for name, command in commands() if prints_json(command)} == RECORDS.keys() | EVENTS


def test_run_says_all_records_that_an_answer_may_have() -> None:
    assert set(RECORDS["run"]) == set(get_args(GenerateEvent))


def test_every_exit_code_is_in_the_table() -> None:
    codes = {value for name, value in vars(ending).items() if name.isupper() and isinstance(value, int)}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", DOCUMENT.read_text(), re.M)} == codes
