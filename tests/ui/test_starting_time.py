"""The interfaces in the terminal start at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys, time
began_s = time.perf_counter(), time.process_time()
import gridnode.cli.app, gridnode.cli.start_offers, gridnode_dashboard.{app}
print(time.process_time() - began_s[1], time.perf_counter() - began_s[0])
print(*(name for name in {heavy!r} if name in sys.modules))
"""
HEAVY = ("torch", "transformers", "onnxruntime")


@pytest.mark.parametrize("app", ["chat_app", "top_app"])
def test_an_interface_is_imported_within_a_second_and_without_torch(app: str) -> None:
    # The best of three: the first one may have to compile. The processor's time, for others use it too.
    code = [sys.executable, "-c", CODE.format(app=app, heavy=HEAVY)]
    runs = [subprocess.run(code, capture_output=True, text=True, check=True).stdout.split() for _ in range(3)]
    cpu_s, wall_s = (min(float(run[i]) for run in runs) for i in (0, 1))
    print(f"importing {app} takes {cpu_s:.2f} s of the processor, {wall_s:.2f} s in all")
    assert [run[2:] for run in runs] == [[], [], []]
    assert cpu_s < 1.0
