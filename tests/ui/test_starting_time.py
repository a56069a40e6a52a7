"""The interfaces in the terminal start at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys, time
began_s = time.process_time()
import textual.app, httpx, numpy
libraries_s = time.process_time() - began_s
import gridnode.cli.app, gridnode.cli.start_offers, gridnode_dashboard.{app}
print(libraries_s, time.process_time() - began_s)
print(*(name for name in {heavy!r} if name in sys.modules))
"""
HEAVY = ("torch", "transformers", "onnxruntime")
# 0.9 s on a quiet computer, where the libraries that it cannot do without take half of that.
MAX_SHARE = 4.0


@pytest.mark.parametrize("app", ["chat_app", "top_app"])
def test_an_interface_is_imported_about_as_fast_as_its_libraries_and_without_torch(app: str) -> None:
    # The best of three: the first one may have to compile. The processor's time, for others use it too.
    code = [sys.executable, "-c", CODE.format(app=app, heavy=HEAVY)]
    runs = [subprocess.run(code, capture_output=True, text=True, check=True).stdout.split() for _ in range(3)]
    libraries_s, all_s = (min(float(run[i]) for run in runs) for i in (0, 1))
    print(f"importing {app} takes {all_s:.2f} s of the processor, {libraries_s:.2f} s of it for libraries")
    assert [run[2:] for run in runs] == [[], [], []]
    assert all_s < MAX_SHARE * libraries_s
