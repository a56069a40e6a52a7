"""Weights in huge pages, on Linux.

Decoding reads all weights for each token, and with pages of 4 KiB the processor looks up 250 of them for each
megabyte. Distributions leave it to programs to ask for huge pages (`madvise` in
/sys/kernel/mm/transparent_hugepage/enabled), and neither ONNX Runtime nor torch does.
"""

from __future__ import annotations

import ctypes
import mmap
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gridnode.engine.executor import Array
from gridnode.units import MIB

_HUGE_BYTES = 2 * MIB
_PAGE_BYTES = mmap.PAGESIZE
# madvise(2), Linux 6.1: makes huge pages of what lies there, at once. Older kernels refuse it.
_MADV_COLLAPSE = 25
# A huge page takes memory for all of it, so that what has holes, as stacks of threads, stays as it is.
_RESIDENT_SHARE = 0.95
# proc_pid_maps(5): writable, of no file.
_REGION = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p \S+ \S+ 0 *(\[heap\])?$")


def use_huge_pages() -> int:
    """Move what this process holds in memory to huge pages, where it fills them; return their bytes.

    Takes some milliseconds for each 10 MiB. Does nothing where the system has no such call.
    """
    if sys.platform != "linux":
        return 0
    libc = ctypes.CDLL(None)
    moved = 0
    for start, end in list(_regions(Path("/proc/self/maps").read_text())):
        resident = np.zeros((end - start) // _PAGE_BYTES, dtype=np.uint8)
        arguments = ctypes.c_void_p(start), ctypes.c_size_t(end - start)
        if libc.mincore(*arguments, ctypes.c_void_p(resident.ctypes.data)) != 0:
            continue  # another thread gave it back
        for first, last in _full(resident & 1):
            part = ctypes.c_void_p(start + first * _HUGE_BYTES), ctypes.c_size_t((last - first) * _HUGE_BYTES)
            # What cannot be moved (memory is scarce, or in pieces) is no harm: it stays in small pages.
            if libc.madvise(*part, _MADV_COLLAPSE) == 0:
                moved += (last - first) * _HUGE_BYTES
    return moved


def _regions(maps: str) -> Iterator[tuple[int, int]]:
    """Yield the addresses of heaps, cut to whole huge pages."""
    for found in map(_REGION.match, maps.splitlines()):
        if found is not None:
            start = -(-int(found[1], 16) // _HUGE_BYTES) * _HUGE_BYTES
            end = int(found[2], 16) // _HUGE_BYTES * _HUGE_BYTES
            if start < end:
                yield start, end


def _full(resident: Array) -> Iterator[tuple[int, int]]:
    """Yield the runs of huge pages that are in memory, by index; `resident` has 1 for each small page."""
    share = resident.reshape(-1, _HUGE_BYTES // _PAGE_BYTES).mean(axis=1)
    is_full = np.concatenate(([False], share >= _RESIDENT_SHARE, [False]))
    turns = np.flatnonzero(is_full[1:] != is_full[:-1])
    yield from zip(turns[0::2].tolist(), turns[1::2].tolist(), strict=True)
