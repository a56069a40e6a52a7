"""Shells complete commands, flags and keys."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def gridnode(*arguments: str, env: dict[str, str] | None = None) -> str:
    """Run the command under its own name, as the script in the environment does."""
    code = f"import sys; sys.argv = ['gridnode', *{arguments!r}]\nfrom gridnode.cli import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=dict(os.environ) | (env or {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_printed(shell: str) -> None:
    script = gridnode("completion", shell)
    assert f"complete_{shell}" in script
    assert "_GRIDNODE_COMPLETE" in script


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("gridnode com", {"completion"}),
        ("gridnode up --quan", {"--quantize"}),
        ("gridnode config get limits.", {"limits.memory", "limits.threads", "limits.cache_tokens"}),
    ],
)
def test_words_are_completed(words: str, expected: set[str]) -> None:
    variables = {
        "_GRIDNODE_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    assert set(gridnode(env=variables).split()) >= expected
