"""What glibc does with freed memory while a span is loaded, and afterwards."""

from __future__ import annotations

import ctypes
import json
import mmap
import subprocess
import sys

import pytest

from gridnode.units import MIB

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc"
)

# A process of its own: settings of malloc stay.
PROGRAM = """
import ctypes, json, resource
from gridnode.engine.allocator import returning_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)  # a huge page is counted once

def new_pages(num_bytes):
    "Fill a block and free it: return how many pages the system had to give."
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(num_bytes)))
    ctypes.memset(block, 1, num_bytes)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with returning_memory():
    loading = [new_pages(BYTES) for _ in range(4)]
later = [new_pages(BYTES) for _ in range(4)]
print(json.dumps({"loading": loading, "later": later}))
"""
BYTES = 4 * MIB


def test_memory_goes_back_at_once_while_loading_and_stays_for_the_next_step_afterwards() -> None:
    """A page that the system gives costs as much as computing thousands of values."""
    program = PROGRAM.replace("BYTES", str(BYTES)).replace("PR_SET_THP_DISABLE", "41")  # prctl(2)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    pages = json.loads(done.stdout)
    whole = BYTES // mmap.PAGESIZE
    assert all(count >= whole for count in pages["loading"])
    assert all(count < whole // 10 for count in pages["later"][1:])
