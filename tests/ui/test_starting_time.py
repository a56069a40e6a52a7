"""The interfaces in the terminal start at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys, time
began_s = time.perf_counter()
import gridnode.cli.app, gridnode.cli.start_offers, gridnode_dashboard.{app}
print(time.perf_counter() - began_s, *(name for name in {heavy!r} if name in sys.modules))
"""
HEAVY = ("torch", "transformers", "onnxruntime")


@pytest.mark.parametrize("app", ["chat_app", "top_app"])
def test_an_interface_is_imported_within_a_second_and_without_torch(app: str) -> None:
    # The best of three: the first one may have to compile, and other tests run on the same cores.
    code = [sys.executable, "-c", CODE.format(app=app, heavy=HEAVY)]
    runs = [subprocess.run(code, capture_output=True, text=True, check=True).stdout.split() for _ in range(3)]
    took_s = min(float(run[0]) for run in runs)
    print(f"importing {app} takes {took_s:.2f} s")
    assert [run[1:] for run in runs] == [[], [], []]
    assert took_s < 1.0
