"""Giving memory back to the system while a span is loaded.

glibc keeps freed blocks of some megabytes in its heap, and raises the size from which it does not as it
sees such blocks. Loading frees thousands of them: without this, quantizing ten blocks of a small model left
three times their size resident.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

# malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_WHILE_LOADING_BYTES = 64 * 1024
# Where glibc itself stops: temporary tensors of steps stay in the heap, where they are cheap.
_LATER_BYTES = 32 * 1024 * 1024
# As glibc does. Who sets one of its limits has to set all: with its first value the heap gave every tensor of
# a prompt back, and a fourth of the time of a small model went into getting pages again.
_TRIM_BYTES = 2 * _LATER_BYTES


@contextlib.contextmanager
def returning_memory() -> Iterator[None]:
    """Return freed memory to the system at once, inside; and what is left over, at the end."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):  # not glibc
        yield
        return
    libc.mallopt(_M_MMAP_THRESHOLD, _WHILE_LOADING_BYTES)
    libc.mallopt(_M_TRIM_THRESHOLD, _WHILE_LOADING_BYTES)
    try:
        yield
    finally:
        libc.mallopt(_M_MMAP_THRESHOLD, _LATER_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
        libc.malloc_trim(0)
