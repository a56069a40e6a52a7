"""Every scenario of docs/parity.md has a test that names it, or a reason why not."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| ([AB]\d+) \| ([^|]+) \| ([^|]+) \|$", re.M)
ROWS = ROW.findall((ROOT / "docs" / "parity.md").read_text(encoding="utf-8"))


@cache
def docstrings(path: str) -> dict[str, str]:
    """Return the docstring of every test of a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {
        node.name: ast.get_docstring(node) or ""
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_scenario_has_a_row() -> None:
    expected = [f"A{number}" for number in range(1, 31)] + [f"B{number}" for number in range(1, 16)]
    assert [scenario for scenario, _, _ in ROWS] == expected


@pytest.mark.parametrize(("scenario", "shown"), [(row[0], row[2]) for row in ROWS])
def test_the_test_of_a_scenario_exists_and_names_it(scenario: str, shown: str) -> None:
    if shown.startswith("does not apply"):
        assert len(shown.partition(": ")[2]) > 20
        return
    path, _, name = shown.strip("` ").partition("::")
    assert name in docstrings(path)
    assert re.search(rf"\b{scenario}\b", docstrings(path)[name]), f"say {scenario} in the docstring of {name}"
