"""Huge pages: memory that is full moves to them, and nothing else does."""

from __future__ import annotations

import mmap
import subprocess
import sys

import pytest

from gridnode.engine.huge_pages import _regions, use_huge_pages
from gridnode.units import KIB, MIB

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a call of Linux")

# In a process of its own: what else lies in the memory of the tests is nobody's business here.
FULL_AND_EMPTY = """
import mmap
from gridnode.engine.huge_pages import use_huge_pages
full, empty = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE), mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE)
full.write(bytes(range(256)) * (len(full) // 256))
for mib in range(64):
    empty[mib << 20] = 1
use_huge_pages()
full.seek(0)
assert full.read() == bytes(range(256)) * (len(full) // 256)
"""


def kib(field: str, rollup: str) -> int:
    """Return a field of smaps_rollup."""
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith(f"{field}:"))


def can_collapse() -> bool:
    """Return whether this system makes huge pages on request."""
    memory = mmap.mmap(-1, 8 * MIB, flags=mmap.MAP_PRIVATE)
    memory.write(b"x" * (8 * MIB))
    return use_huge_pages() > 0


@pytest.mark.skipif(not can_collapse(), reason="this system makes no huge pages on request (Linux 6.1)")
def test_full_memory_moves_and_memory_with_holes_takes_no_more() -> None:
    program = FULL_AND_EMPTY + "print(open('/proc/self/smaps_rollup').read())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert kib("AnonHugePages", done.stdout) * KIB >= 60 * MIB
    assert kib("Rss", done.stdout) * KIB < 64 * MIB + 48 * MIB  # the interpreter, and 64 pages of the other


def test_without_the_call_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert use_huge_pages() == 0


def test_regions_of_files_and_stacks_are_left_alone() -> None:
    maps = (
        "7f0000000000-7f0000800000 rw-p 00000000 00:00 0 \n"
        "7f0001000000-7f0001800000 ---p 00000000 00:00 0 \n"
        "7f0002000000-7f0002800000 rw-p 00000000 fd:00 42       /weights\n"
        "7f0003000000-7f0003800000 rw-p 00000000 00:00 0        [stack]\n"
        "7f0004100000-7f0004500000 rw-p 00000000 00:00 0        [heap]\n"
    )
    assert list(_regions(maps)) == [(0x7F0000000000, 0x7F0000800000), (0x7F0004200000, 0x7F0004400000)]
