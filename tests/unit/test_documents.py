"""What the documents say is true."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path
from typing import Any, get_args

import cli_reference
import pytest
import typer.main
from documented import DOCUMENTS, ROOT

from gridnode import __version__
from gridnode.cli.app import create_app
from gridnode.control.answer_schema import GenerateEvent
from gridnode.control.door_errors import STATUS_OF, ErrorBody, status_of
from gridnode.control.openai.errors import api_error
from gridnode.errors import ErrorCode


def commands() -> list[str]:
    """Return every command line of gridnode in the documents' shell blocks and in the help."""
    blocks = [
        block for path in DOCUMENTS for block in re.findall(r"```sh\n(.*?)```", path.read_text(), flags=re.S)
    ]
    blocks += [inspect.cleandoc(command.help or "") for _, command in cli_reference.commands()]
    # Neither comments nor what the shell does with the output belong to the command.
    whole = "\n".join(blocks).replace("\\\n", "")
    lines = [re.split(r"\[dim\]| > ", line)[0].strip() for line in whole.splitlines()]
    return [line[line.index("gridnode ") :] for line in lines if re.match(r"(.* \| )?gridnode ", line)]


@pytest.mark.parametrize("line", commands())
def test_every_command_in_the_documents_can_be_given(line: str) -> None:
    command: Any = typer.main.get_command(create_app())
    _, *words = shlex.split(line, comments=True)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_changelog_begins_with_the_present_version() -> None:
    found = re.search(r"^## (\d\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    assert found is not None
    assert found[1] == __version__


def test_the_documented_statuses_are_those_of_the_door() -> None:
    text = (ROOT / "docs" / "index.md").read_text()
    for status_code, codes in re.findall(r"^\| (\d{3}) \| (`[^|]*) \|", text, flags=re.M):
        if status_code in ("403", "413"):
            continue  # kinds of bad input that have no code of their own
        for code in re.findall(r"`(\w+)`", codes):
            assert STATUS_OF[code] == int(status_code), code  # type: ignore[index]


def test_the_documented_errors_of_the_api_are_those_that_it_sends() -> None:
    def sent(code: ErrorCode, status: int | None = None) -> tuple[int, str]:
        body = ErrorBody(code=code, message="")
        return status or status_of(body), api_error(body, status=status).error.code

    usual = {code: sent(code) for code in ErrorCode}
    for_a_status = {
        sent(ErrorCode.KEY_REFUSED, 403),
        *(sent(ErrorCode.BAD_INPUT, n) for n in (403, 404, 413)),
    }
    text = (ROOT / "docs" / "api.md").read_text()
    told = {
        (int(status), code)
        for status, codes in re.findall(r"^\| (\d{3}) \| (`[^|]*) \|", text, flags=re.M)
        for code in re.findall(r"`(\w+)`", codes)
    }
    assert told <= {*usual.values(), *for_a_status}
    # OpenAI's words, which nothing else tells.
    assert told >= for_a_status | {answer for code, answer in usual.items() if answer[1] != code}


def test_every_event_of_an_answer_is_in_the_table_of_the_door() -> None:
    [row] = re.findall(r"^\| `POST /api/v1/run` .*$", (ROOT / "docs" / "index.md").read_text(), flags=re.M)
    for event in get_args(GenerateEvent):
        assert f"`{event.__name__.lower()}`" in row
