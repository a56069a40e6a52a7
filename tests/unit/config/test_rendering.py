"""The configuration as people read it."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from gridnode.config.layers import Given, merge
from gridnode.config.rendering import as_toml, reference, template
from gridnode.config.settings import settings
from gridnode.config.toml_file import parse_file

DOCUMENT = Path(__file__).parents[3] / "docs" / "configuration.md"
MARK = "gridnode/config/node_config.py. -->\n"


def test_what_is_shown_is_a_file_that_says_the_same() -> None:
    values = merge({"limits.memory": Given(4 * 1024**3, "flag", "--memory"), "swarm.name": Given('a"b')})
    text = as_toml(values, with_origins=True)
    read = parse_file(text, path=Path("x"), origin="user file")
    assert {name: given.value for name, given in read.items()} == {
        name: given.value for name, given in values.items() if given.value is not None
    }
    assert '\nmemory = "4GiB"' in text
    assert "# flag --memory\n" in text
    assert "# flag" not in as_toml(values, with_origins=False)


def test_the_template_changes_nothing_and_every_line_of_it_can_be_used() -> None:
    assert parse_file(template(), path=Path("x"), origin="user file") == {}
    lines = [
        line[1:] if line.startswith("#") and not line.startswith("# ") and not line.endswith("=") else line
        for line in template().splitlines()
    ]
    read = parse_file("\n".join(lines), path=Path("x"), origin="user file")
    assert len(read) == len([1 for setting in settings().values() if setting.default is not None])
    assert all(given.value == settings()[name].default for name, given in read.items())
    assert set(tomllib.loads(template())) == {setting.section for setting in settings().values()}


def test_the_document_has_the_table_of_every_key() -> None:
    text = DOCUMENT.read_text()
    expected = text[: text.index(MARK) + len(MARK)] + "\n" + reference()
    if "UPDATE_DOCS" in os.environ:
        DOCUMENT.write_text(expected)
    assert DOCUMENT.read_text() == expected, "'make docs' writes it anew"
