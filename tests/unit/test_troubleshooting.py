"""The messages in `docs/troubleshooting.md` are those of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# First column of a table, in backticks; "…" stands for what is filled in.
MESSAGES = re.findall(r"^\| `(.+?)` \|", (ROOT / "docs" / "troubleshooting.md").read_text(), flags=re.M)


def templates(tree: ast.AST) -> Iterator[str]:
    """Yield every text of a program, with "…" where something is filled in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%[a-z.\d]+", "…", node.value)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [
        re.sub(r"\s+", " ", text)
        for path in (ROOT / "gridnode").rglob("*.py")
        for text in templates(ast.parse(path.read_text()))
    ]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_documented_message_is_one_that_is_printed(message: str, texts: list[str]) -> None:
    pattern = re.compile(".*".join(re.escape(part.strip()) for part in message.split("…")))
    assert any(pattern.search(text) for text in texts)
