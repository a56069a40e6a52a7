"""Standard error is JSON only, if that was asked for."""

from __future__ import annotations

import json

import pytest

from gridnode.cli.json_lines import json_console


def test_lines_for_people_become_records(capsys: pytest.CaptureFixture[str]) -> None:
    console = json_console()
    console.print("  api      [x] 100%s " + "long " * 60, markup=False, soft_wrap=True)
    console.print("\ntwo\nlines")
    records = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [record["message"].split()[0] for record in records] == ["api", "two", "lines"]
    assert records[0]["message"].startswith("api      [x] 100%s long")
    assert {record["logger"] for record in records} == {"gridnode.up"}
