"""The examples of the pages about the API work as they stand."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from served_swarm import ServedSwarm

DOCS = Path(__file__).parents[2] / "docs"
TEXT = "".join((DOCS / name).read_text() for name in ("api.md", "dialects.md"))
TIMEOUT_S = 120

pytestmark = [pytest.mark.swarm, pytest.mark.smollm]


def examples(language: str) -> list[str]:
    blocks = re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.S)
    return [block for block in blocks if "127.0.0.1:7337" in block]


def output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("number", range(len(examples("python"))))
def test_the_examples_in_python_run(demo_swarm: ServedSwarm, number: int) -> None:
    program = examples("python")[number].replace("http://127.0.0.1:7337", demo_swarm.url)
    assert output([sys.executable, "-c", program]).strip()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("number", range(len(examples("sh"))))
def test_the_examples_in_the_shell_are_answered(demo_swarm: ServedSwarm, number: int) -> None:
    command = examples("sh")[number].replace("http://127.0.0.1:7337", demo_swarm.url)
    said = output(["sh", "-c", command.replace("curl ", "curl --silent --fail-with-body ", 1)])
    assert '"error":{' not in said
    assert any(word in said for word in ("choices", "output", "embedding", "response", "message"))
