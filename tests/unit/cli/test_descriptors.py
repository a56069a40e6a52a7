"""The files and sockets that a process may have open: tried in processes of their own."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from gridnode.cli.descriptors import WANTED_DESCRIPTORS

PROGRAM = """
import resource
from gridnode.cli.descriptors import raise_descriptor_limit
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
raise_descriptor_limit()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [(64, 512, 512), (64, WANTED_DESCRIPTORS + 5, WANTED_DESCRIPTORS), (100, 100, 100)],
    ids=["as far as it may", "as much as it needs", "nothing to be had"],
)
def test_a_process_may_open_what_it_needs(soft: int, hard: int, expected: int) -> None:
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed != resource.RLIM_INFINITY and allowed < hard:
        pytest.skip(f"nobody may open more than {allowed} here")
    program = PROGRAM.format(soft=soft, hard=hard)
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.split() == [str(expected), str(hard)]
